//! What builds do to this machine: the engine's `Machine` with real steps on busybox, without a client and without a Dockerfile.
#![allow(clippy::unwrap_used, reason = "tests may fail by panicking")]

mod copies;
mod digests;
mod sources;
mod steps;
mod world;

//! The shim with real containers and a client of its own: needs root and busybox.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod clients;
mod execs;
mod first_process;
mod harness;
mod life;
mod logs;
mod mapped;
mod name_clients;
mod names;
mod survival;
mod terminal;

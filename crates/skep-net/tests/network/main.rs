//! The stack in real network namespaces. Each test is a host of its own, with an uplink to another host beside it, so
//! nothing touches the machine's network and tests can run side by side.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod bypass;
mod flush;
mod gateway;
mod lab;
mod lifecycle;
mod matrix;
mod parents;
mod ports;
mod rates;
mod reachability;
mod restart;

//! What a user does, from outside: through the command line and the API, with an engine for each scenario. Each scenario is about
//! one thing. They hold for Docker too: `SKEP_TEST_ENGINE=docker cargo test -p skep-tests`.
//!
//! `basics` and a few others also run in the virtual machine with cgroup v2 (`cargo xtask vm-test`).
#![allow(clippy::unwrap_used, reason = "tests may fail by panicking")]

mod archives;
mod artifacts;
mod basics;
mod build_basics;
mod build_caches;
mod build_classic;
mod build_clients;
mod build_crash;
mod build_definitions;
mod build_devices;
mod build_disk;
mod build_exports;
mod build_failed;
mod build_isolation;
mod build_limits;
mod build_peers;
mod build_platforms;
mod build_progress;
mod build_questions;
mod build_upkeep;
mod build_wrong;
mod certificates;
mod client;
mod commit;
mod copy;
mod crash;
mod evil;
mod exits;
mod files;
mod images;
mod isolation;
mod limits;
mod login;
mod net_commands;
mod net_compose;
mod net_explain;
mod net_model;
mod net_names;
mod net_rates;
mod net_soak;
mod network;
mod outside;
mod peers;
mod policy;
mod project;
mod pulls;
mod push;
mod races;
mod registry;
mod registry_crash;
mod remote;
mod repair;
mod sdk;
#[path = "../builds/serve.rs"]
mod serve;
mod survival;
mod terminal;
mod transports;
mod upkeep;
mod userns;
mod wrong_input;

use skep_testkit::{Engine, Image};

/// An engine that has busybox.
fn engine() -> Engine {
    let engine = Engine::start();
    engine.load(Image::busybox());
    engine
}

/// Starts a container that does nothing until it is stopped, and knows how to stop.
fn sleeper(engine: &Engine, name: &str) -> String {
    engine.run(["run", "-d", "--name", name, "--init", "busybox", "sleep", "1000"]).success().word()
}

//! A network more or less for a running container, over the API and by the command line; and what a network adds to a start.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Samples;
use super::home::Home;
use crate::bench::engines::Engine;
use crate::bench::report::Unit;
use crate::bench::{millis, words};

const CREATE: &str = "net: create a network, over the API";
const REMOVE: &str = "net: remove a network, over the API";
const CONNECT: &str = "net: connect, over the API";
const DISCONNECT: &str = "net: disconnect, over the API";
const CONNECT_COMMAND: &str = "net: network connect";
const DISCONNECT_COMMAND: &str = "net: network disconnect";
const RUN_NONE: &str = "net: run --rm --network none";
const RUN: &str = "net: run --rm --network NAME";
pub(super) const CASES: [&str; 8] =
    [CREATE, REMOVE, CONNECT, DISCONNECT, CONNECT_COMMAND, DISCONNECT_COMMAND, RUN_NONE, RUN];

pub(super) fn measure(home: &Home, samples: &mut Samples) -> Result<()> {
    let took = home.on_engine(|engine| {
        let network = r#"{"Name":"bench-second","Driver":"bridge","CheckDuplicate":true}"#;
        let create = time(|| engine.call("POST", "/networks/create", network))?;
        let connect = time(|| connect(engine, "bench-second"))?;
        let disconnect = time(|| disconnect(engine, "bench-second"))?;
        let connect_command = time(|| engine.run(&words("network connect bench-second bench-a")))?;
        let disconnect_command = time(|| engine.run(&words("network disconnect bench-second bench-a")))?;
        let remove = time(|| engine.call("DELETE", "/networks/bench-second", ""))?;
        let run_none = time(|| engine.run(&words("run --rm --network none busybox true")))?;
        let run = time(|| engine.run(&words("run --rm --network bench busybox true")))?;
        Ok([create, remove, connect, disconnect, connect_command, disconnect_command, run_none, run])
    })?;
    for (case, took) in CASES.iter().zip(took) {
        samples.add(case, Unit::Milliseconds, millis(took));
    }
    Ok(())
}

pub(super) fn connect(engine: &Engine, network: &str) -> Result<String> {
    engine.call("POST", &format!("/networks/{network}/connect"), r#"{"Container":"bench-a"}"#)
}

pub(super) fn disconnect(engine: &Engine, network: &str) -> Result<String> {
    engine.call("POST", &format!("/networks/{network}/disconnect"), r#"{"Container":"bench-a"}"#)
}

pub(super) fn time<T>(work: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

//! `kill`.

use skep_runtime::container::{LaunchError, Result};
use skep_sys::process::send_signal;
use skep_types::Signal;

use super::args::{Args, Item};
use super::store::{Entry, Record};
use super::{Global, help};

/// Runs the command.
pub(crate) fn run(global: &Global, mut args: Args) -> Result<u8> {
    let mut all = false;
    let mut words = Vec::new();
    while let Some(item) = args.next()? {
        match item {
            Item::Word(word) => words.push(word),
            Item::Option(name) => match name.as_str() {
                "a" | "all" => all = args.flag()?,
                other => return Err(help::or_unknown(other, &args)),
            },
        }
    }
    let (id, signal) = match words.as_slice() {
        [id] => (id, Signal::TERM),
        [id, signal] => (id, signal.parse().map_err(|error| LaunchError::invalid(format!("{error}")))?),
        _ => return Err(LaunchError::invalid("expected ID [SIGNAL]: see --help")),
    };
    let entry = Entry::open(&global.root, id)?;
    let record = entry.made()?;
    if all {
        to_all(&record, signal)?
    } else {
        to_first(&record, signal)?
    }
    Ok(0)
}

fn to_first(record: &Record, signal: Signal) -> Result<()> {
    let process = record.process().ok_or_else(|| LaunchError::wrong_state("container not running"))?;
    send_signal(&process, signal.number()).map_err(|error| LaunchError::os("kill", error))
}

/// Signals every process of the cgroup; a container that has stopped may have left some.
fn to_all(record: &Record, signal: Signal) -> Result<()> {
    let Some(cgroup) = record.cgroup() else { return Ok(()) };
    let failed = |error: skep_runtime::cgroup::Error| LaunchError::system("kill", error.to_string());
    if signal == Signal::KILL {
        return cgroup.kill_all().map_err(failed);
    }
    for pid in cgroup.pids().map_err(failed)? {
        let Some(pid) = rustix::process::Pid::from_raw(pid) else { continue };
        if let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            let _ = send_signal(&pidfd, signal.number());
        }
    }
    Ok(())
}

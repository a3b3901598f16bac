//! `delete`, and what `run` does when its container has ended.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use skep_runtime::container::{LaunchError, Result, State, Status, run_hooks};
use skep_runtime::spec::Spec;

use super::args::{Args, Item, only};
use super::store::{Entry, Record};
use super::{Global, help};

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the command.
pub(crate) fn run(global: &Global, mut args: Args) -> Result<u8> {
    let mut force = false;
    let mut words = Vec::new();
    while let Some(item) = args.next()? {
        match item {
            Item::Word(word) => words.push(word),
            Item::Option(name) => match name.as_str() {
                "f" | "force" => force = args.flag()?,
                other => return Err(help::or_unknown(other, &args)),
            },
        }
    }
    let id = only(words, "the container's id")?;
    let entry = match Entry::open(&global.root, &id) {
        Ok(entry) => entry,
        Err(_) if force => return Ok(0),
        Err(error) => return Err(error),
    };
    let record = entry.record()?;
    let Some(record) = record else {
        // Left behind by a create that was killed.
        return if force {
            entry.remove().map(|()| 0)
        } else {
            Err(LaunchError::wrong_state(format!("container {id:?} is being made")))
        };
    };
    let status = entry.status(Some(&record));
    match status {
        Status::Stopped => {}
        Status::Created => end(&record)?,
        Status::Creating | Status::Running | Status::Paused if force => end(&record)?,
        Status::Creating | Status::Running | Status::Paused => {
            let shown = if status == Status::Paused { "paused" } else { "running" };
            let text = format!("cannot delete container {id} that is not stopped: {shown}");
            return Err(LaunchError::wrong_state(text));
        }
    }
    let spec = entry.spec()?;
    clean_up(global, entry, Some(&record), &spec)?;
    Ok(0)
}

/// Kills the first process and waits until it is gone.
fn end(record: &Record) -> Result<()> {
    let Some(process) = record.process() else { return Ok(()) };
    if let Some(cgroup) = record.cgroup() {
        let _ = cgroup.thaw();
    }
    let _ = rustix::process::pidfd_send_signal(&process, rustix::process::Signal::KILL);
    let until = Instant::now() + PATIENCE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => return Err(LaunchError::system("delete", "the container's process does not end")),
            Ok(_) => return Ok(()),
            Err(error) => return Err(LaunchError::os("poll", error)),
        }
    }
}

/// Removes what is left of a container whose process has ended. Goes on after a failure, and reports the first.
pub(crate) fn clean_up(global: &Global, entry: Entry, record: Option<&Record>, spec: &Spec) -> Result<()> {
    let mut first = Ok(());
    if let Some(cgroup) = record.and_then(Record::cgroup) {
        let removed = cgroup.kill_all().and_then(|()| cgroup.remove());
        first = removed.map_err(|error| LaunchError::system("remove cgroup", error.to_string()));
    }
    let bundle = record.map(|record| record.bundle.clone()).unwrap_or_default();
    let state = State::new(&entry.id, spec, &bundle, Status::Stopped, 0);
    let removed = entry.remove();
    if let Some(hooks) = &spec.hooks
        && let Err(error) = run_hooks("poststop", &hooks.poststop, &state)
    {
        global.log.warn(&error.to_string());
    }
    first.and(removed)
}

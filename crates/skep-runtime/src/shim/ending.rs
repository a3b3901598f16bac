//! How things end: execs, and the container.
//!
//! When the init has ended, in this order: everything it has written goes into the log; the cgroup is removed; `exit.json` is put in
//! place; the socket goes, so that the bundle may be used for a new start; then everyone is told. What clients have not taken
//! yet is delivered after that.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags};
use skep_types::Signal;

use super::event_loop::{INIT, Pids, Shim};
use super::poll::ProcessKey;
use crate::protocol::{EXIT_RECORD, Exit, ExitRecord, Failure, FailureKind, Phase, Reply, SHIM_SOCKET, Target};

/// Ends of execs that are remembered while there is no one to tell.
const MAX_UNTOLD: usize = 256;

impl Shim {
    /// An exec'd process has ended: tells everyone. Its output may still be on its way.
    pub(super) fn on_exec_exit(&mut self, key: ProcessKey) {
        let Some((target, exit)) = self.processes.get(&key).and_then(|p| Some((p.target, p.exit?))) else { return };
        let reply = Reply::Exited { target, exit };
        let mut told = self.broadcast(&reply);
        let waiter = self.waiters.remove(&key).and_then(|number| self.connections.get_mut(&number));
        if let Some(connection) = waiter.filter(|c| !c.subscribed) {
            connection.send(&reply);
            told |= !connection.is_dead();
        }
        if let Some(process) = self.processes.get_mut(&key) {
            process.told = told;
            process.input = None;
        }
    }

    /// Closes the clients of execs whose output is complete, and forgets those that nobody needs any more.
    pub(super) fn sweep_execs(&mut self) {
        let mut untold = 0;
        // Newest first: the oldest are forgotten.
        for key in self.processes.keys().rev().copied().filter(|&k| k != INIT).collect::<Vec<_>>() {
            let Some(process) = self.processes.get_mut(&key).filter(|p| p.exit.is_some() && p.output_ended()) else {
                continue;
            };
            process.output_deadline = None;
            process.close_clients();
            if process.clients.is_empty() {
                untold += usize::from(!process.told);
                if process.told || untold > MAX_UNTOLD {
                    self.processes.remove(&key);
                }
            }
        }
    }

    /// The container's init has ended: its output is read to the end, and what is left of the container is killed.
    pub(super) fn on_init_exit(&mut self) {
        self.at_gate = None;
        if self.pids == Pids::Shared
            && let Some(cgroup) = &self.cgroup
        {
            // Otherwise the kernel has done it, before the init could be reaped.
            let _ = cgroup.kill_all();
        }
        if let Some(init) = self.processes.get_mut(&INIT) {
            let trouble = init.drain_output(&mut self.buffer);
            if let Some(text) = trouble {
                self.broadcast(&Reply::Trouble(text));
            }
        }
    }

    /// Ends the container once its init has ended and all output has come, or has been given up.
    pub(super) fn finish_if_ended(&mut self) {
        if matches!(self.phase, Phase::Exited(_)) {
            return;
        }
        let Some(init) = self.processes.get(&INIT) else { return };
        let Some(exit) = init.exit.filter(|_| init.output_ended()) else { return };
        let waits = init.output_deadline.is_some_and(|d| d > Instant::now());
        let execs_run = self.processes.values().any(|p| p.exit.is_none());
        if execs_run && waits {
            return;
        }
        self.finish(exit);
    }

    fn finish(&mut self, exit: Exit) {
        let exit = with_failure(exit, self.failure.as_ref());
        if let Some(cgroup) = self.cgroup.take()
            && let Err(e) = cgroup.remove()
        {
            self.broadcast(&Reply::Trouble(format!("cannot remove the container's cgroup: {e}")));
        }
        let record = ExitRecord {
            pid: self.processes.get(&INIT).map_or(0, |p| p.pid),
            started_at: self.started_at,
            exit,
            failure: self.failure.clone(),
        };
        if let Err(e) = self.write_record(&record) {
            self.broadcast(&Reply::Trouble(format!("cannot write the container's exit record: {e}")));
        }
        self.listener = None;
        // It holds the network namespace.
        self.names = None;
        let _ = rustix::fs::unlinkat(&self.bundle.directory, SHIM_SOCKET, AtFlags::empty());
        self.phase = Phase::Exited(exit);
        self.broadcast(&Reply::Exited { target: Target::Container, exit });
        let patience = Duration::from_millis(self.config.grace.slow_client_ms);
        for process in self.processes.values_mut() {
            process.patience = Some(patience);
            if process.key == INIT || process.exit.is_none() {
                process.give_up_output();
                process.output_deadline = None;
                process.close_clients();
            }
        }
    }

    fn write_record(&self, record: &ExitRecord) -> io::Result<()> {
        const TEMPORARY: &str = ".exit.json.new";
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let directory = &self.bundle.directory;
        let fd = rustix::fs::openat(directory, TEMPORARY, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(fd);
        file.write_all(&serde_json::to_vec(record)?)?;
        file.sync_all()?;
        Ok(rustix::fs::renameat(directory, TEMPORARY, directory, EXIT_RECORD)?)
    }

    /// Nobody knows of the container, and it has not started or is of no use to anyone else: it ends.
    pub(super) fn abandon(&mut self) {
        self.at_gate = None;
        self.abandoned = true;
        if let Some(init) = self.processes.get(&INIT) {
            let _ = rustix::process::pidfd_send_signal(&init.pidfd, rustix::process::Signal::KILL);
        }
    }
}

/// What users know as the exit code of a container whose program could not be executed.
fn with_failure(exit: Exit, failure: Option<&Failure>) -> Exit {
    let Some(failure) = failure else { return exit };
    let code = match failure.kind {
        FailureKind::CommandNotFound => 127,
        FailureKind::NotExecutable => 126,
        FailureKind::NoTarget | FailureKind::WrongPhase | FailureKind::Other => 128,
    };
    Exit { code, signal: None::<Signal>, ..exit }
}

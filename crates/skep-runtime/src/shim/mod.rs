//! The shim: one small process for each container, between the container's processes and whoever is interested in them.
//!
//! It clones the container's init, keeps its standard streams, writes its log, serves attached clients and exec'd processes,
//! reaps, and leaves an exit record. It outlives the engine. [`crate::protocol`] tells how to talk to it.
//!
//! ```text
//!                    ┌────────────────────── event_loop ───────────────────────┐
//!   control, shim.sock ──▶ connection ──▶ requests ──▶ process ◀──▶ pipes, pty │
//!                    │         ▲                      │  │   ▲                │
//!                    │         └── Exited ── ending ◀─┘  │   └── client ◀──▶ data sockets
//!                    │                          │        └─▶ log ──▶ <id>-json.log
//!                    │  dns ◀──▶ 127.0.0.11:53   │                              │
//!                    └──────────────────────────┼──────────────────────────────┘
//!                                               └─▶ exit.json
//! ```
//!
//! One thread, one epoll instance, no async runtime. After the start the specification is forgotten (an exec reads it again) and
//! freed memory is given back: a shim at rest, after several execs, has about 300 KiB of memory that it shares with no other shim
//! (measured as Private_Dirty of a release build), most of it relocated data of the program and pages of the C
//! library's. Nothing in here waits for a client, a log or a process, with two exceptions: `execve` of a new process, and the
//! removal of the cgroup, which can take until the kernel has torn down the last process.
//!
//! Memory is bounded: for each stream one unfinished line (1 MiB), for each client what one read of output gives (64 KiB; at the
//! end of the container once more what its pipes still hold), for each stdin what one read of a client gives; for questions about names,
//! see [`dns`].

mod client;
mod connection;
mod dns;
mod ending;
mod event_loop;
mod input;
mod log;
mod poll;
mod process;
mod requests;
mod startup;
mod streams;

use std::ffi::OsString;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::container::{LaunchError, LaunchErrorKind};
use crate::protocol::{Failure, FailureKind};

/// One of the two output streams; a terminal has only the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

/// Runs the shim with the arguments `--bundle DIR` until the container has ended. The control connection is standard input.
/// Returns the exit code of the process; what went wrong was told on the control connection.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let mut arguments = arguments.into_iter();
    let (Some(option), Some(bundle), None) = (arguments.next(), arguments.next(), arguments.next()) else { return 125 };
    if option != "--bundle" {
        return 125;
    }
    match startup::start(Path::new(&bundle)) {
        Ok(shim) => shim.run(),
        Err(code) => code,
    }
}

/// The present time in nanoseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A failed system call as the protocol has it.
fn failed(step: &str, error: impl Into<std::io::Error>) -> Failure {
    let error = error.into();
    Failure {
        kind: FailureKind::Other,
        step: step.to_owned(),
        errno: error.raw_os_error(),
        message: format!("{step}: {error}"),
    }
}

/// A request that can't be fulfilled.
fn refused(kind: FailureKind, step: &str, message: &str) -> Failure {
    Failure { kind, step: step.to_owned(), errno: None, message: message.to_owned() }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        Failure {
            kind: match error.kind {
                LaunchErrorKind::CommandNotFound => FailureKind::CommandNotFound,
                LaunchErrorKind::NotExecutable => FailureKind::NotExecutable,
                LaunchErrorKind::WrongState => FailureKind::WrongPhase,
                LaunchErrorKind::InvalidSpec | LaunchErrorKind::Refused | LaunchErrorKind::System => FailureKind::Other,
            },
            message: error.to_string(),
            step: error.step.into_owned(),
            errno: error.errno,
        }
    }
}

//! What a container is doing.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The state of a container, with what is known in that state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Status {
    /// Made, never started.
    Created,
    /// Its process runs.
    Running(Running),
    /// Its processes are frozen.
    Paused(Running),
    /// It ended and waits for its next start by the restart policy.
    Restarting(Exited),
    /// It ended.
    Exited(Exited),
    /// It is being removed.
    Removing,
    /// Its removal failed; only another removal helps.
    Dead,
}

/// Facts about a running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Process id on the host.
    pub pid: i32,
    /// Start time of the process in clock ticks since boot (proc(5), field 22): tells a recycled pid.
    pub start_time: u64,
    /// When it started.
    pub started_at: DateTime<Utc>,
}

/// Facts about a process that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// The kernel killed a process of it for lack of memory.
    pub oom_killed: bool,
    /// Why it did not start, else empty.
    pub error: String,
    /// When it had started; absent when it never came so far.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
}

impl Status {
    /// Docker's word for the state.
    pub fn name(&self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running(_) => "running",
            Status::Paused(_) => "paused",
            Status::Restarting(_) => "restarting",
            Status::Exited(_) => "exited",
            Status::Removing => "removing",
            Status::Dead => "dead",
        }
    }

    /// The process, if there is one.
    pub fn running(&self) -> Option<&Running> {
        match self {
            Status::Running(running) | Status::Paused(running) => Some(running),
            Status::Created | Status::Restarting(_) | Status::Exited(_) | Status::Removing | Status::Dead => None,
        }
    }

    /// How it ended, if that is the last thing that happened.
    pub fn exited(&self) -> Option<&Exited> {
        match self {
            Status::Exited(exited) | Status::Restarting(exited) => Some(exited),
            Status::Created | Status::Running(_) | Status::Paused(_) | Status::Removing | Status::Dead => None,
        }
    }
}

//! The messages: [`Request`]s of the engine, [`Reply`]s of the shim.

use serde::{Deserialize, Serialize};
use skep_types::{ExecId, Signal};

use crate::spec::{ConsoleSize, Process};

/// What the engine asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Let the init go. Answer: `Started`, or `Failed` and the container ends as if it had exited.
    Start,
    /// Answer: `State`.
    State,
    /// Answer: `State`; from then on `Exited` and `Trouble` come on this connection.
    Subscribe,
    /// Join a data socket, passed along, to the init's stdio. Answer: `Attached`.
    Attach(Attach),
    /// Run a further process. Answer: `ExecStarted`, later `Exited` on the same connection.
    Exec(Box<Exec>),
    /// Set the size of a terminal. Answer: `Done`.
    Resize {
        /// Whose terminal.
        target: Target,
        /// The new size.
        size: ConsoleSize,
    },
    /// Send a signal. Answer: `Done`, also if the process has just ended.
    Signal {
        /// To whom.
        target: Target,
        /// Which.
        signal: Signal,
        /// To how many.
        scope: Scope,
    },
}

/// A process that the shim looks after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The container's init.
    Container,
    /// An exec'd process.
    Exec(ExecId),
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The one process.
    Process,
    /// Every process in the container's cgroup; the target does not matter.
    All,
}

/// Which streams a client takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// What it sends goes to the process.
    pub stdin: bool,
    /// It gets standard output; with a terminal, all output.
    pub stdout: bool,
    /// It gets standard error.
    pub stderr: bool,
}

/// A further process in the container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// Its id, not in use by another process of this container.
    pub id: ExecId,
    /// The process; `terminal` and `console_size` decide about its terminal.
    pub process: Process,
    /// The streams of the data socket that comes along; `None` without one: stdin is empty, output is dropped.
    pub attach: Option<Attach>,
}

/// What the shim answers and reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// First message on the control connection: the init waits at the gate.
    Created {
        /// Its process id in the shim's pid namespace.
        pid: i32,
        /// Its start time: field 22 of `/proc/PID/stat`.
        start_time: u64,
        /// What the machine refused but the container can do without, as sentences for the user.
        warnings: Vec<String>,
    },
    /// The init has executed its program.
    Started,
    /// The shim's view.
    State(State),
    /// The data socket is joined.
    Attached,
    /// The exec'd process has executed its program.
    ExecStarted {
        /// Its process id in the shim's pid namespace.
        pid: i32,
        /// Its start time: field 22 of `/proc/PID/stat`.
        start_time: u64,
    },
    /// Asked and done.
    Done,
    /// Asked and not done.
    Failed(Failure),
    /// A process has ended.
    Exited {
        /// Which.
        target: Target,
        /// How.
        exit: Exit,
    },
    /// Something a person should know of, as a sentence: the log can't be written, ...
    Trouble(String),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit status as a shell sees it: 0 to 255, and 128 + n after signal n.
    pub code: u8,
    /// The signal that ended it.
    pub signal: Option<Signal>,
    /// Whether the kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
    /// When, in nanoseconds since 1970 (UTC).
    pub finished_at: i64,
}

/// The contents of `exit.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The process id that the init had.
    pub pid: i32,
    /// When it was let go, in nanoseconds since 1970 (UTC); `None` if it never was.
    pub started_at: Option<i64>,
    /// How it ended.
    pub exit: Exit,
    /// Why its program could not be executed, if that was it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What the shim knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The shim's own process id.
    pub shim_pid: i32,
    /// The process id of the init.
    pub pid: i32,
    /// Its start time: field 22 of `/proc/PID/stat`.
    pub start_time: u64,
    /// How far the container is.
    pub phase: Phase,
    /// Exec'd processes: those that run, and those whose end nobody has been told of yet.
    pub execs: Vec<ExecState>,
}

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waiting at the gate.
    Created,
    /// Let go.
    Running {
        /// When, in nanoseconds since 1970 (UTC).
        started_at: i64,
    },
    /// Ended; the shim is about to end too.
    Exited(Exit),
}

/// An exec'd process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecState {
    /// Its id.
    pub id: ExecId,
    /// Its process id.
    pub pid: i32,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
}

/// Why a request failed: what happened, where, and the system's error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// The step that failed, a short name such as `execve` or `mount`.
    pub step: String,
    /// The system's error number, if there is one.
    pub errno: Option<i32>,
    /// The whole story as one sentence, with the step and the system's error.
    pub message: String,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// There is no such program: exit code 127.
    CommandNotFound,
    /// The program can't be executed: exit code 126.
    NotExecutable,
    /// The target does not exist, or no longer, or has no terminal.
    NoTarget,
    /// The request does not fit the container's phase.
    WrongPhase,
    /// Anything else: exit code 125.
    Other,
}

//! Processes exec'd in a running container.

use skep_types::{ContainerId, ExecId};

/// What `exec` runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecConfig {
    /// Program and arguments.
    pub cmd: Vec<String>,
    /// Connect stdin.
    pub attach_stdin: bool,
    /// Connect stdout.
    pub attach_stdout: bool,
    /// Connect stderr.
    pub attach_stderr: bool,
    /// A terminal instead of pipes.
    pub tty: bool,
    /// `NAME=value`, beyond the container's own.
    pub env: Vec<String>,
    /// Working directory; the container's when empty.
    pub working_dir: String,
    /// `user[:group]`; the container's when empty.
    pub user: String,
    /// All capabilities.
    pub privileged: bool,
    /// Keys that detach, as written; the default when empty.
    pub detach_keys: Option<String>,
    /// Height and width of the terminal at the start.
    pub console_size: Option<[u32; 2]>,
}

/// An exec'd process as `exec inspect` shows it.
#[derive(Debug, Clone)]
pub struct ExecView {
    /// Its id.
    pub id: ExecId,
    /// The container it runs in.
    pub container: ContainerId,
    /// What was asked for.
    pub config: ExecConfig,
    /// What it is doing.
    pub status: ExecStatus,
}

/// The state of an exec'd process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecStatus {
    /// Made, not started.
    Created,
    /// Runs, with this process id on the host.
    Running(i32),
    /// Ended with this code.
    Exited(i32),
}

//! Asking a shim for things.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use skep_runtime::protocol::{Attach, Exec, Exit, Reply, Request, Scope, State, Target};
use skep_runtime::spec::ConsoleSize;
use skep_types::Signal;
use tokio::net::UnixStream;

use super::connection::{Connection, wrong_answer};
use super::{AttachStream, ShimError};

/// A container's shim. Cheap to clone; holds no connection.
#[derive(Debug, Clone)]
pub struct ShimHandle {
    bundle: PathBuf,
}

/// An exec'd process.
#[derive(Debug)]
pub struct RunningExec {
    /// Its process id.
    pub pid: i32,
    /// Its start time: field 22 of `/proc/PID/stat`.
    pub start_time: u64,
    /// Its stdio, if asked for.
    pub stream: Option<AttachStream>,
    /// How it will end.
    pub exit: ExecExit,
}

/// The end of an exec'd process. Not waiting for it is fine: [`ShimEvents`](super::ShimEvents) tells too.
#[derive(Debug)]
pub struct ExecExit(Connection);

impl ExecExit {
    /// Waits for the end. The shim reports it before it closes the exec's stream. Safe to cancel.
    pub async fn wait(&mut self) -> Result<Exit, ShimError> {
        match self.0.answer().await? {
            Reply::Exited { exit, .. } => Ok(exit),
            other => Err(wrong_answer(&other)),
        }
    }
}

impl ShimHandle {
    pub(super) fn new(bundle: &Path) -> Self {
        ShimHandle { bundle: bundle.to_owned() }
    }

    /// Lets the container's init go; returns when it has executed its program. If that fails, [`ShimError::kind`] tells a
    /// missing command from one that can't be executed, and the container ends: `Exited` follows.
    pub async fn start(&self) -> Result<(), ShimError> {
        match self.ask(Request::Start).await? {
            Reply::Started => Ok(()),
            other => Err(wrong_answer(&other)),
        }
    }

    /// Joins the stdio of the container's init. Before [`start`](Self::start), no byte of output is missed; later, output is
    /// what comes from now on.
    pub async fn attach(&self, streams: Attach) -> Result<AttachStream, ShimError> {
        let (ours, theirs) = data_sockets()?;
        let mut connection = Connection::open(&self.bundle).await?;
        connection.send(&Request::Attach(streams), Some(theirs)).await?;
        match connection.answer().await? {
            Reply::Attached => Ok(ours),
            other => Err(wrong_answer(&other)),
        }
    }

    /// Runs a further process in the container; returns when it has executed its program.
    pub async fn exec(&self, exec: Exec) -> Result<RunningExec, ShimError> {
        let (ours, theirs) = match exec.attach {
            Some(_) => data_sockets().map(|(ours, theirs)| (Some(ours), Some(theirs)))?,
            None => (None, None),
        };
        let mut connection = Connection::open(&self.bundle).await?;
        connection.send(&Request::Exec(Box::new(exec)), theirs).await?;
        match connection.answer().await? {
            Reply::ExecStarted { pid, start_time } => {
                Ok(RunningExec { pid, start_time, stream: ours, exit: ExecExit(connection) })
            }
            other => Err(wrong_answer(&other)),
        }
    }

    /// Sets the size of a process's terminal.
    pub async fn resize(&self, target: Target, size: ConsoleSize) -> Result<(), ShimError> {
        self.done(Request::Resize { target, size }).await
    }

    /// Sends a signal to a process of the container, or to all of them.
    pub async fn kill(&self, target: Target, signal: Signal, scope: Scope) -> Result<(), ShimError> {
        self.done(Request::Signal { target, signal, scope }).await
    }

    /// What the shim knows.
    pub async fn state(&self) -> Result<State, ShimError> {
        match self.ask(Request::State).await? {
            Reply::State(state) => Ok(state),
            other => Err(wrong_answer(&other)),
        }
    }

    async fn done(&self, request: Request) -> Result<(), ShimError> {
        match self.ask(request).await? {
            Reply::Done => Ok(()),
            other => Err(wrong_answer(&other)),
        }
    }

    async fn ask(&self, request: Request) -> Result<Reply, ShimError> {
        let mut connection = Connection::open(&self.bundle).await?;
        connection.send(&request, None).await?;
        connection.answer().await
    }
}

fn data_sockets() -> Result<(AttachStream, OwnedFd), ShimError> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    Ok((AttachStream::new(UnixStream::from_std(ours)?), theirs.into()))
}

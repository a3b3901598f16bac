//! A container that a client of a build makes for itself: on a result, or where a step failed, with what that step wrote.
//!
//! ```text
//! new ──▶ start: the first process is the container's init ──▶ start: further ones ──▶ the init ends, or release: all of it is gone
//! ```
//! What is written in it is thrown away. It is as confined as a step: same capabilities, same filter, same network, no more.

use std::sync::Arc;

use skep_build::BuildError;
use skep_build::error::Written;
use skep_build::graph::{Mount, MountKind, Run, Secret};
use skep_build::worker::{Context, Stack, Tree};
use skep_fs::Root;
use skep_runtime::protocol::{Attach, Exec, Exit, Scope, Target};
use skep_runtime::spec;
use skep_store::UpperDir;
use skep_types::{ErrorKind, ExecId, Signal};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::error::{blocking, engine as engine_error};
use super::output::Pieces;
use super::room::Room;
use super::{Ground, Prepared, Streams, ended, lost, mounts, prepare};
use crate::containers::{oci, rootfs};
use crate::engine::Inner;
use crate::shim::{AttachStream, ExecExit, ShimHandle, Spawned};

/// What a container is made of.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its layers.
    pub base: Stack,
    /// What a step that failed wrote on top of them.
    pub written: Option<Written>,
    /// Mounts, network, limits. What its program is, each process says for itself.
    pub run: Run,
    /// The trees of the mounts, in the order in which they name steps.
    pub inputs: Vec<Tree>,
}

/// A program in a container.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Variables that are secrets of the client; only of the first process.
    pub secrets: Vec<Secret>,
    /// Its directory.
    pub cwd: String,
    /// As in `USER`.
    pub user: String,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// `--security=insecure`; only of the first process, and of all others with it.
    pub insecure: bool,
}

/// A container of a client. Dropped, it is gone with all that runs in it.
pub struct BuildContainer {
    engine: Arc<Inner>,
    context: Context,
    state: Mutex<State>,
    _end: DropGuard,
    end: CancellationToken,
}

enum State {
    New(Box<Place>),
    Running(Box<Running>),
    Over,
}

/// What further processes are started from.
struct Running {
    shim: ShimHandle,
    process: spec::Process,
    root: Arc<Root>,
}

/// A program that runs in a container. Dropping it ends nothing but its input.
pub struct BuildProcess {
    /// What it writes.
    pub output: Pieces<OwnedReadHalf>,
    /// Its standard input, which ends when this is dropped.
    pub input: OwnedWriteHalf,
    /// Signals and sizes for it.
    pub control: ProcessControl,
    /// How it ends.
    pub end: ProcessEnd,
}

/// The end of a program.
pub enum ProcessEnd {
    /// Of a container's first one.
    Init(watch::Receiver<Option<Result<Exit, BuildError>>>),
    /// Of another one.
    Exec(ExecExit),
}

/// Signals and sizes for a program.
#[derive(Clone)]
pub struct ProcessControl {
    shim: ShimHandle,
    target: Target,
}

impl BuildContainer {
    pub(in crate::build) fn new(engine: &Arc<Inner>, place: Place, context: Context) -> Self {
        let end = CancellationToken::new();
        let state = Mutex::new(State::New(Box::new(place)));
        BuildContainer { engine: Arc::clone(engine), context, state, _end: end.clone().drop_guard(), end }
    }

    /// Starts a program.
    ///
    /// # Errors
    /// It can't be started, or the container is over.
    pub async fn start(&self, process: Process) -> Result<BuildProcess, BuildError> {
        let mut state = self.state.lock().await;
        match &*state {
            State::Over => Err(BuildError::new(ErrorKind::Conflict, "the container has ended")),
            State::Running(running) => exec(running, process).await,
            State::New(place) => {
                let place = place.clone();
                *state = State::Over; // unless the first program starts
                let (running, started) = self.first(*place, process).await?;
                *state = State::Running(Box::new(running));
                Ok(started)
            }
        }
    }

    async fn first(&self, place: Place, process: Process) -> Result<(Running, BuildProcess), BuildError> {
        let Place { base, written, run, inputs } = place;
        let run = run_of(run, &process);
        let brought = mounts::bring(&self.engine, &run, &inputs, &self.context).await?;
        let streams = if process.terminal { Streams::Terminal } else { Streams::All };
        let preparing = (Arc::clone(&self.engine), run.clone(), written.clone(), self.context.clone());
        let Prepared { mut room, upper, config, process: spec, root } = blocking(move || {
            let (engine, run, written, context) = preparing;
            let written = written.as_ref().and_then(|written| written.0.downcast_ref::<UpperDir>());
            prepare(&engine, &run, Ground { base, written }, brought, &context, streams)
        })
        .await?;
        let lease = self.engine.storage.store().layers().lease();
        base.iter().for_each(|top| lease.hold(top));
        let netns = room.namespace()?;
        let spawned = ShimHandle::spawn(&self.engine.config.runtime, &room.bundle, config, netns).await;
        let Spawned { shim, events, created } = spawned.map_err(lost)?;
        room.occupy(shim.clone(), events);
        room.plug(run.network, created.pid).await?;
        let stream = shim.attach(Attach { stdin: true, stdout: true, stderr: true }).await.map_err(lost)?;
        shim.start().await.map_err(|error| {
            BuildError::new(ErrorKind::InvalidParameter, format!("unable to start container process: {error}"))
        })?;
        let (tell, told) = watch::channel(None);
        let watched = watch_over(room, upper, self.end.clone(), tell);
        self.engine.tasks.spawn(async move {
            watched.await;
            drop((lease, written, inputs));
        });
        let running = Running { shim: shim.clone(), process: spec, root: Arc::new(root) };
        let control = ProcessControl { shim, target: Target::Container };
        Ok((running, BuildProcess::new(stream, process.terminal, control, ProcessEnd::Init(told))))
    }

    /// Ends what goes on in it.
    pub fn release(&self) {
        self.end.cancel();
    }
}

/// The step with another program.
fn run_of(run: Run, process: &Process) -> Run {
    let secret = |secret: &Secret| Mount {
        target: "/".into(),
        kind: MountKind::Secret(Secret { file: false, ..secret.clone() }),
        readonly: true,
    };
    let cwd = if process.cwd.is_empty() { "/" } else { &process.cwd };
    Run {
        argv: process.argv.clone(),
        env: process.env.clone(),
        cwd: std::path::Path::new("/").join(cwd),
        user: process.user.clone(),
        insecure: process.insecure,
        mounts: run.mounts.iter().cloned().chain(process.secrets.iter().map(secret)).collect(),
        ..run
    }
}

/// Waits for the container's end, and clears it away.
async fn watch_over(
    mut room: Room,
    upper: UpperDir,
    end: CancellationToken,
    tell: watch::Sender<Option<Result<Exit, BuildError>>>,
) {
    let exit = tokio::select! {
        exit = ended(&mut room) => exit,
        () = end.cancelled() => {
            // Dropped, it ends what runs in it.
            drop(room);
            tell.send_replace(Some(Err(super::super::error::cancelled())));
            return;
        }
    };
    let cleared = blocking(move || {
        room.leave();
        drop(upper);
        Ok(())
    });
    if let Err(error) = cleared.await {
        tracing::warn!(%error, "clearing a container of a build away");
    }
    tell.send_replace(Some(exit));
}

/// A further program. Its user is looked up in the files that the container began with.
async fn exec(running: &Running, process: Process) -> Result<BuildProcess, BuildError> {
    let (root, user) = (Arc::clone(&running.root), process.user.clone());
    let identity = blocking(move || rootfs::look_up(&root, &user, &[]).map_err(engine_error)).await?;
    let bounding = running.process.capabilities.as_ref().map(|sets| sets.bounding.as_slice()).unwrap_or_default();
    let capabilities = oci::capability_sets(bounding, identity.uid);
    let env = super::spec::environment(&process.env, &[], Vec::new(), &identity.home, process.terminal);
    let cwd = if process.cwd.is_empty() { "/" } else { &process.cwd };
    let id = ExecId::from_bytes(crate::random::bytes());
    let exec = Exec {
        id,
        process: spec::Process {
            terminal: process.terminal,
            console_size: None,
            user: oci::user(&identity),
            args: process.argv,
            env,
            cwd: std::path::Path::new("/").join(cwd),
            capabilities: Some(capabilities),
            ..running.process.clone()
        },
        attach: Some(Attach { stdin: true, stdout: true, stderr: true }),
    };
    let started = running.shim.exec(exec).await.map_err(lost)?;
    let missing = || BuildError::new(ErrorKind::System, "a process without its streams");
    let control = ProcessControl { shim: running.shim.clone(), target: Target::Exec(id) };
    let stream = started.stream.ok_or_else(missing)?;
    Ok(BuildProcess::new(stream, process.terminal, control, ProcessEnd::Exec(started.exit)))
}

impl BuildProcess {
    fn new(stream: AttachStream, terminal: bool, control: ProcessControl, end: ProcessEnd) -> Self {
        let (output, input) = stream.into_split();
        BuildProcess { output: Pieces::new(output, !terminal), input, control, end }
    }

    /// Whether the container ends with it.
    pub fn is_first(&self) -> bool {
        matches!(self.end, ProcessEnd::Init(_))
    }
}

impl ProcessEnd {
    /// Waits for the end. A container's first program has ended when everything of the container is gone.
    ///
    /// # Errors
    /// The container was released, or the process that looked after it was killed.
    pub async fn wait(&mut self) -> Result<Exit, BuildError> {
        match self {
            ProcessEnd::Exec(exit) => exit.wait().await.map_err(lost),
            ProcessEnd::Init(told) => {
                let gone = || BuildError::new(ErrorKind::System, "nobody looks after the container");
                let exit = told.wait_for(Option::is_some).await.map_err(|_| gone())?;
                exit.clone().unwrap_or_else(|| Err(gone()))
            }
        }
    }
}

impl ProcessControl {
    /// Sets the size of the program's terminal.
    ///
    /// # Errors
    /// It has none, or has ended.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<(), BuildError> {
        let size = spec::ConsoleSize { height: rows, width: columns };
        self.shim.resize(self.target, size).await.map_err(lost)
    }

    /// Sends a signal to the program.
    ///
    /// # Errors
    /// It has ended.
    pub async fn signal(&self, signal: Signal) -> Result<(), BuildError> {
        self.shim.kill(self.target, signal, Scope::Process).await.map_err(lost)
    }
}

//! `RUN`: a program in a container that no one else knows of, and the layer that it leaves.
//!
//! ```text
//! bring (secrets, agents, caches) ─▶ prepare: upper directory, mount points, bundle, namespace ─▶ shim ─▶ output ─▶ exit
//!                                                                                                            │
//!                                                    layer ◀── commit ◀── seal the upper directory ◀──── code 0
//! ```
//! The root file system is an overlay of the base's layers, perhaps one of mount points ([`stubs`]), and a directory of the store's
//! staging area. It is mounted in the container's mount namespace only. The shim ends the container when the engine goes.

mod agent;
pub(in crate::build) mod confined;
mod container;
mod mounts;
mod output;
mod room;
mod sandboxes;
mod spec;
mod stubs;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use skep_build::BuildError;
use skep_build::error::Written;
use skep_build::graph::{Network, Run};
use skep_build::worker::{Context, Held, Layer, Stack, Tree};
use skep_runtime::protocol::{
    Attach, Exit, FirstProcess, Grace, Lifetime, OverlayOwners, OverlaySync, Rootfs, ShimConfig, StdinMode, Target,
    VERSION,
};
use skep_store::{ChainId, UpperDir};
use skep_types::ErrorKind;

use super::error::{blocking, cancelled, engine as engine_error, failed, store};
use super::tree;
use crate::containers::rootfs;
use crate::engine::Inner;
use crate::shim::{AttachStream, ShimError, ShimEvent, ShimHandle, Spawned};

pub use container::{BuildContainer, BuildProcess, Place, Process, ProcessControl, ProcessEnd};
pub(super) use mounts::cache_name;
pub use output::Pieces;
use room::Room;
pub(crate) use room::sweep;
pub(crate) use sandboxes::Sandboxes;
use stubs::Point;

/// The exit code of a program that could not be started.
const NOT_STARTED: i32 = 1;

/// Runs a program on `base` and makes a layer of what it changed.
pub(super) async fn run(
    engine: &Arc<Inner>,
    run: &Run,
    base: Stack,
    inputs: &[Tree],
    context: &Context,
) -> Result<Layer, BuildError> {
    let lease = engine.storage.store().layers().lease();
    base.iter().for_each(|top| lease.hold(top));
    let brought = mounts::bring(engine, run, inputs, context).await?;
    let preparing = (Arc::clone(engine), run.clone(), context.clone());
    let Prepared { mut room, upper, config, .. } = blocking(move || {
        let (engine, run, context) = preparing;
        prepare(&engine, &run, Ground { base, written: None }, brought, &context, Streams::Output)
    })
    .await?;
    let exit = tokio::select! {
        exit = execute(engine, run, &mut room, config, context) => exit?,
        () = context.cancel.cancelled() => return Err(cancelled()),
    };
    let engine = Arc::clone(engine);
    let ended = blocking(move || {
        // The layer is read after the last process has gone, and before anyone may use the mounts again.
        let sealed = if exit.is_none() { commit(&engine, base, upper).map(Ok) } else { Ok(Err(upper)) };
        room.leave();
        drop(lease);
        sealed
    })
    .await?;
    ended.map_err(|upper| BuildError { written: Some(Written(Arc::new(upper))), ..unsuccessful(run, exit) })
}

/// BuildKit's words for a program that failed.
fn unsuccessful(run: &Run, exit: Option<Exit>) -> BuildError {
    let code = exit.map_or(NOT_STARTED, |exit| i32::from(exit.code));
    let memory = if exit.is_some_and(|exit| exit.oom_killed) { ": cannot allocate memory" } else { "" };
    let program = run.argv.join(" ");
    let message = format!("process {program:?} did not complete successfully: exit code: {code}{memory}");
    BuildError { exit_code: Some(code), ..BuildError::new(ErrorKind::System, message) }
}

/// Seals what a step wrote, and puts it on top of its base. Blocking.
pub(super) fn commit(engine: &Inner, base: Stack, upper: UpperDir) -> Result<Layer, BuildError> {
    let staged = upper.seal().map_err(store)?;
    let (diff_id, size) = (staged.diff_id, staged.size);
    let layers = engine.storage.store().layers();
    let lease = layers.lease();
    // Before it is there, or known to be there already: nothing else needs it yet.
    lease.hold(&ChainId::of(base.as_ref(), &diff_id));
    let stack = layers.commit_pending(base.as_ref(), staged).map_err(store)?;
    Ok(Layer { stack, diff_id, size, held: Held::by(lease) })
}

/// What a program runs on.
#[derive(Clone, Copy)]
struct Ground<'a> {
    base: Stack,
    /// What a program that failed wrote on top of it.
    written: Option<&'a UpperDir>,
}

/// What is connected with the program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Streams {
    /// Its output; its input is empty.
    Output,
    /// Its input too.
    All,
    /// A terminal.
    Terminal,
}

/// All that a program needs to be started.
struct Prepared {
    room: Room,
    upper: UpperDir,
    config: ShimConfig,
    /// As the specification has it.
    process: skep_runtime::spec::Process,
    /// The files below.
    root: skep_fs::Root,
}

/// Everything up to the start. Blocking.
fn prepare(
    engine: &Arc<Inner>,
    run: &Run,
    ground: Ground<'_>,
    brought: Vec<mounts::Brought>,
    context: &Context,
    streams: Streams,
) -> Result<Prepared, BuildError> {
    let upper = engine.storage.store().layers().stage_upper(ground.base.as_ref()).map_err(store)?;
    let below: Vec<PathBuf> =
        ground.written.map(UpperDir::path).into_iter().chain(upper.lower().iter().cloned()).collect();
    let mut room = Room::new(engine, &run.limits.cgroup_parent)?;
    let mapped = engine.config.userns_remap.is_some();
    room.insecure = run.insecure;
    room.network = match run.network {
        Network::Host if mapped => {
            let text = "cannot share the host's network namespace when user namespaces are enabled";
            return Err(BuildError::invalid(text));
        }
        // It makes its own, which its user namespace has rights over.
        Network::Default | Network::None if mapped => None,
        Network::Default => Some(sandboxes::take(engine).map_err(engine_error)?),
        Network::None => Some(engine.networks.isolated_step().map_err(engine_error)?),
        Network::Host => None,
    };
    let empty = room.directory("empty")?;
    let root = tree::merged(&below, &empty)?;
    let identity = rootfs::look_up(&root, &run.user, &[]).map_err(|error| {
        let error = engine_error(error);
        let message = format!("process {:?} did not complete successfully: {}", run.argv.join(" "), error.message);
        BuildError { message, ..error }
    })?;
    let placed = mounts::place(engine, &mut room, brought, context)?;
    let spec = spec::make(
        engine,
        spec::Parts {
            run,
            identity: &identity,
            cgroup: &room.cgroup,
            bundle: &room.bundle,
            mounts: placed.mounts,
            secret_env: placed.secret_env,
            terminal: streams == Streams::Terminal,
        },
    )?;
    room.write(&spec)?;
    let own: Vec<&Path> = placed.points.iter().map(|(path, _)| path.as_path()).collect();
    let points = spec.mounts.iter().filter(|mount| !own.contains(&mount.destination.as_path()));
    let points = points.map(|mount| (mount.destination.clone(), point_of(mount)));
    let points: Vec<(PathBuf, Point)> = points.chain(placed.points.iter().cloned()).collect();
    let stubs = room.directory("stubs")?;
    let any = stubs::make(&root, &stubs, &points).map_err(failed("make the mount points of a step"))?;
    let lower = any.then_some(stubs).into_iter().chain(below);
    let config = ShimConfig {
        version: VERSION,
        id: room.id,
        rootfs: Rootfs::Overlay {
            lower: lower.collect(),
            upper: upper.path(),
            work: upper.work(),
            sync: OverlaySync::Omitted,
            owners: match mapped {
                true => OverlayOwners::Mapped,
                false => OverlayOwners::Stored,
            },
        },
        stdin: if streams == Streams::Output { StdinMode::Closed } else { StdinMode::Once },
        netns_fd: None,
        names: None,
        log: None,
        // Whoever reads the output decides how long the step waits.
        grace: Grace { slow_client_ms: u64::from(u32::MAX), ..Grace::default() },
        lifetime: Lifetime::Engine,
        first: FirstProcess::Program,
    };
    let process = spec.process.unwrap_or_default();
    Ok(Prepared { room, upper, config, process, root })
}

/// What one of the engine's own mounts needs.
fn point_of(mount: &skep_runtime::spec::Mount) -> Point {
    match mount.kind.as_deref() {
        Some("bind") if mount.source.as_deref().is_some_and(|source| !source.is_dir()) => Point::File,
        _ => Point::Directory,
    }
}

/// Runs the program to its end. None if it was successful.
async fn execute(
    engine: &Arc<Inner>,
    run: &Run,
    room: &mut Room,
    config: ShimConfig,
    context: &Context,
) -> Result<Option<Exit>, BuildError> {
    let netns = room.namespace()?;
    let started = ShimHandle::spawn(&engine.config.runtime, &room.bundle, config, netns).await;
    let Spawned { shim, events, created } = match started {
        Ok(spawned) => spawned,
        Err(error) => return not_started(run, &error, context).await,
    };
    room.occupy(shim.clone(), events);
    room.plug(run.network, created.pid).await?;
    for warning in created.warnings {
        tracing::warn!(step = %room.id, "{warning}");
    }
    let streams = Attach { stdin: false, stdout: true, stderr: true };
    let stream: AttachStream = shim.attach(streams).await.map_err(lost)?;
    if let Err(error) = shim.start().await {
        return not_started(run, &error, context).await;
    }
    let pumped = output::pump(stream, &context.events, context.vertex);
    let (pumped, exit) = tokio::join!(pumped, ended(room));
    pumped.map_err(failed("read the output of a step"))?;
    let exit = exit?;
    Ok((exit.code != 0).then_some(exit))
}

async fn ended(room: &mut Room) -> Result<Exit, BuildError> {
    let id = room.id;
    let gone = || BuildError::new(ErrorKind::System, "the process that looked after a step was killed");
    let events = room.events().ok_or_else(gone)?;
    loop {
        match events.next().await.map_err(lost)? {
            Some(ShimEvent::Exited { target: Target::Container, exit }) => return Ok(exit),
            Some(ShimEvent::Exited { .. }) => {}
            Some(ShimEvent::Trouble(text)) => tracing::warn!(step = %id, "{text}"),
            None => return Err(gone()),
        }
    }
}

/// A program that can't be started has failed; why is told where its output would be.
async fn not_started(run: &Run, error: &ShimError, context: &Context) -> Result<Option<Exit>, BuildError> {
    let text = format!("unable to start container process: {error}\n");
    output::tell(&context.events, context.vertex, (2, Bytes::from(text))).await;
    Err(unsuccessful(run, None))
}

fn lost(error: ShimError) -> BuildError {
    BuildError::new(ErrorKind::System, format!("running a step: {error}"))
}

/// Gives back what is kept ready for the next step.
pub(super) async fn close(engine: &Arc<Inner>) {
    sandboxes::drain(engine).await;
}

/// A socket that leads to the client's ssh agent, for git; none if the client has no agent.
pub(super) async fn agent_for_git(
    engine: &Arc<Inner>,
    context: &Context,
) -> Result<Option<(PathBuf, Box<dyn Send + Sync>)>, BuildError> {
    const DEFAULT: &str = "default";
    if !context.services.has_agent(DEFAULT).await? {
        return Ok(None);
    }
    let room = {
        let engine = Arc::clone(engine);
        blocking(move || Room::new(&engine, "")).await?
    };
    let path = room.directory("agents")?.join(DEFAULT);
    let serving = agent::serve(&engine.tasks, &path, Arc::clone(&context.services), DEFAULT.to_owned());
    let serving = serving.map_err(failed("listen for git's ssh client"))?;
    Ok(Some((path, Box::new((serving, std::sync::Mutex::new(room))))))
}

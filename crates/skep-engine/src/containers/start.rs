//! The start path of a container: from a stored record to a running process.
//!
//! ```text
//!  allocate addresses ─▶ write files and bundle ─▶ ┬─ spawn the shim: init waits at its gate ─┬─▶ bind attached clients
//!                                                  └─ plug the network, publish the ports ────┘        │
//!                        running ◀── store that it runs ── the init executes its program ◀──── start ◀─┘
//! ```
//! What fails on the way is undone in reverse. A shim whose events are dropped before the start undoes its container; where it
//! writes its last record into the bundle, it is waited for.

use std::path::{Path, PathBuf};

use chrono::Utc;
use skep_runtime::protocol::{Attach, FailureKind, Scope, Target};
use skep_types::Signal;
use tokio::task::JoinHandle;

use super::attach::Binding;
use super::bundle::{self, Prepared};
use super::task::Task;
use crate::engine::{Inner, blocking};
use crate::model::network::NetworkMode;
use crate::model::request::AttachOptions;
use crate::model::status::{Exited, Running as Facts, Status};
use crate::networks::{self, Plug, ToPlug};
use crate::shim::{ShimError, ShimEvents, ShimHandle, Spawned};
use crate::{Error, Result, StartFailure};

/// How long the shim of a failed start may take to end.
const SETTLING: std::time::Duration = std::time::Duration::from_secs(5);

/// A container whose process runs.
pub(crate) struct Running {
    pub(crate) shim: ShimHandle,
    pub(crate) events: ShimEvents,
    pub(crate) facts: Facts,
    pub(crate) cgroup: PathBuf,
    pub(crate) bundle: PathBuf,
    /// Its places in networks; none for `host`, `none` and `container:`.
    pub(crate) plugs: Vec<Plug>,
}

impl Running {
    /// Connects a client to the process.
    pub(super) async fn bind(&self, options: &AttachOptions, binding: Binding, open_stdin: bool) -> Result<()> {
        let streams = Attach { stdin: options.stdin && open_stdin, stdout: options.stdout, stderr: options.stderr };
        let stream = self.shim.attach(streams).await.map_err(|e| Error::system("attaching to the container", e))?;
        binding.bind(stream);
        Ok(())
    }

    /// Gives back the container's ports, and with `leftovers` ends processes that may still be in its cgroup. The bundle stays
    /// until the end is stored: its exit record is all there is until then.
    ///
    /// What comes back unplugs the container; the next start has to wait for it, nobody else.
    pub(super) async fn tear_down(
        &mut self,
        engine: &std::sync::Arc<Inner>,
        leftovers: bool,
    ) -> Option<JoinHandle<()>> {
        let (inner, mut plugs, cgroup) = (engine.clone(), std::mem::take(&mut self.plugs), self.cgroup.clone());
        if !leftovers && plugs.is_empty() {
            return None;
        }
        let torn_down = blocking(move || {
            let results = [
                if leftovers { bundle::end_leftovers(&cgroup) } else { Ok(()) },
                inner.networks.unpublish_all(&mut plugs),
            ];
            for error in results.into_iter().filter_map(Result::err) {
                tracing::warn!(%error, "tearing down a container");
            }
            Ok(plugs)
        });
        let plugs = torn_down.await.ok()?;
        let inner = engine.clone();
        let leaving = inner.networks.leave(&plugs);
        Some(engine.tasks.spawn_blocking(move || {
            if let Err(error) = inner.networks.unplug_all(&plugs) {
                tracing::warn!(%error, "unplugging a container");
            }
            drop(leaving);
        }))
    }
}

/// Waits until the shim of a container that could not be started is gone, so that it does not write into what is cleared
/// away.
async fn settle(events: &mut ShimEvents, bundle: &Path) {
    let gone = async { while let Ok(Some(_)) = events.next().await {} };
    if tokio::time::timeout(SETTLING, gone).await.is_err() {
        tracing::warn!(bundle = %bundle.display(), "the shim of a container that failed to start does not end");
    }
}

/// Ends the shim of a container that will not be started.
async fn end(shim: ShimHandle, mut events: ShimEvents, bundle: &Path) {
    // One that is gone already is as good.
    let _ = shim.kill(Target::Container, Signal::KILL, Scope::All).await;
    settle(&mut events, bundle).await;
}

impl Task {
    /// Starts the process. On failure the container is as it was, but for the reason, which `inspect` shows.
    pub(super) async fn start(&mut self) -> Result<()> {
        match self.try_start().await {
            Ok(running) => {
                self.status = Status::Running(running.facts);
                self.running = Some(running);
                self.publish();
                self.network_events("connect");
                self.event("start", []);
                Ok(())
            }
            Err(error) => {
                self.waiting_clients.clear();
                self.record.running = None;
                self.leave_networks().await;
                let code = match &error {
                    Error::Start { cause: StartFailure::CommandNotFound, .. } => 127,
                    Error::Start { cause: StartFailure::NotExecutable, .. } => 126,
                    _ => 128,
                };
                let now = Utc::now();
                let exited =
                    Exited { code, oom_killed: false, error: error.to_string(), started_at: None, finished_at: now };
                self.record.last_exit = Some(exited);
                self.status = self.record.status();
                if let Err(error) = self.save().await {
                    tracing::error!(container = %self.record.id, %error, "storing a failed start");
                }
                self.publish();
                Err(error)
            }
        }
    }

    async fn try_start(&mut self) -> Result<Running> {
        if let Some(unplugging) = self.unplugging.take() {
            // It reports its own failure.
            let _ = unplugging.await;
        }
        let engine = self.engine.clone();
        let record = self.record.clone();
        let overlay = self.overlay.clone();
        let Prepared { bundle, config, cgroup, netns, to_plug, hostname } =
            blocking(move || bundle::prepare(&engine, &record, &overlay)).await?;
        let plugging = |netns| plug(self.engine.clone(), self.record.clone(), hostname, netns);
        let spawning = ShimHandle::spawn(&self.engine.config.runtime, &bundle, config, netns);
        let (spawned, plugs) = match to_plug {
            ToPlug::Ready(netns) => tokio::join!(spawning, plugging(netns)),
            ToPlug::Nothing => (spawning.await, Ok(Vec::new())),
            ToPlug::Own => match spawning.await {
                Ok(spawned) => {
                    let netns = blocking({
                        let pid = spawned.created.pid;
                        move || networks::of_process(pid)
                    });
                    let plug = match netns.await {
                        Ok(netns) => plugging(netns).await,
                        Err(error) => Err(error),
                    };
                    (Ok(spawned), plug)
                }
                failed => (failed, Ok(Vec::new())),
            },
        };
        let mut undo = Undo { engine: self.engine.clone(), plugs: Vec::new(), bundle, cgroup, armed: true };
        // If one of the two failed, the other is taken back: the shim is ended, `undo` unplugs.
        let spawned = spawned.map_err(|e| start_error(&e));
        let Spawned { shim, events, created } = match plugs {
            Ok(plugs) => {
                undo.plugs = plugs;
                spawned?
            }
            Err(error) => {
                if let Ok(Spawned { shim, events, .. }) = spawned {
                    end(shim, events, &undo.bundle).await;
                }
                return Err(error);
            }
        };
        for warning in &created.warnings {
            tracing::warn!(container = %self.record.id, "{warning}");
        }
        let facts = Facts { pid: created.pid, start_time: created.start_time, started_at: Utc::now() };
        if !matches!(self.record.host.network_mode, NetworkMode::Container(_)) {
            self.record.sandbox = networks::sandbox();
        }
        networks::describe(&undo.plugs, &mut self.record);
        self.announce().await;
        self.record.running = Some(facts);
        let ran_before = std::mem::replace(&mut self.record.ever_ran, true);
        let mut running = Running {
            shim,
            events,
            facts,
            cgroup: undo.cgroup.clone(),
            bundle: undo.bundle.clone(),
            plugs: Vec::new(),
        };
        for (options, binding) in std::mem::take(&mut self.waiting_clients) {
            if let Err(error) = running.bind(&options, binding, self.record.config.open_stdin).await {
                end(running.shim, running.events, &undo.bundle).await;
                return Err(error);
            }
        }
        let (started, saved) = tokio::join!(running.shim.start(), self.save());
        if let Err(error) = started.map_err(|e| start_error(&e)).and(saved) {
            self.record.ever_ran = ran_before;
            settle(&mut running.events, &undo.bundle).await;
            return Err(error);
        }
        Ok(Running { plugs: undo.disarm(), ..running })
    }
}

/// Plugs the namespace in, if it is to be plugged, and writes the address into /etc/hosts.
async fn plug(
    engine: std::sync::Arc<Inner>,
    record: super::record::Record,
    hostname: String,
    netns: skep_net::Netns,
) -> Result<Vec<Plug>> {
    let refilling = engine.clone();
    let plugs = blocking(move || {
        let plugs = engine.networks.plug(&engine, &record, &netns)?;
        if let Err(error) = bundle::write_hosts(&engine, &record, &hostname, &networks::addresses(&plugs)) {
            engine.networks.unplug_all(&plugs)?;
            return Err(error);
        }
        Ok(plugs)
    })
    .await;
    // The namespace that was taken is made up for while the container starts; nobody waits for it.
    tokio::task::spawn_blocking(move || refilling.networks.refill());
    plugs
}

/// What is taken back when a start fails.
struct Undo {
    engine: std::sync::Arc<Inner>,
    plugs: Vec<Plug>,
    bundle: PathBuf,
    cgroup: PathBuf,
    armed: bool,
}

impl Undo {
    fn disarm(mut self) -> Vec<Plug> {
        self.armed = false;
        std::mem::take(&mut self.plugs)
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let engine = self.engine.clone();
        let (plugs, bundle, cgroup) =
            (std::mem::take(&mut self.plugs), std::mem::take(&mut self.bundle), std::mem::take(&mut self.cgroup));
        let undo = move || {
            let results = [bundle::end_leftovers(&cgroup), engine.networks.unplug_all(&plugs), bundle::delete(&bundle)];
            for error in results.into_iter().filter_map(Result::err) {
                tracing::warn!(%error, "undoing a failed start");
            }
        };
        // A start fails rarely and its undoing takes a few milliseconds; the caller waits for it, so that the next start
        // finds everything gone.
        tokio::task::block_in_place(undo);
    }
}

/// Docker's words for a process that can't be started.
pub(super) fn start_error(error: &ShimError) -> Error {
    let cause = match error.kind() {
        FailureKind::CommandNotFound => StartFailure::CommandNotFound,
        FailureKind::NotExecutable => StartFailure::NotExecutable,
        FailureKind::NoTarget | FailureKind::WrongPhase | FailureKind::Other => StartFailure::Other,
    };
    Error::Start {
        cause,
        message: format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: \
             unable to start container process: {error}"
        ),
    }
}

//! Where a step runs: its bundle, its cgroup, its namespace. Whatever ends the step, everything is taken away again, in an order that
//! leaves no process with something that is used by others already.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_build::BuildError;
use skep_build::graph::Network;
use skep_runtime::protocol::{Scope, Target};
use skep_runtime::spec::Spec;
use skep_types::{ContainerId, Signal};

use super::super::error::{blocking, engine as engine_error, failed};
use super::sandboxes;
use crate::containers::bundle;
use crate::engine::Inner;
use crate::networks::{self, StepNetwork};
use crate::shim::{ShimEvents, ShimHandle};
use crate::storage::make_dir;

/// How long processes that were killed may take to end before what is left of them is looked for by their cgroup.
const SETTLING: std::time::Duration = std::time::Duration::from_secs(5);

/// The place of one step. Dropped, it is cleared away in the background.
pub(super) struct Room {
    engine: Arc<Inner>,
    pub(super) id: ContainerId,
    pub(super) bundle: PathBuf,
    /// Where secrets are: in memory, whatever the bundle is on.
    secrets: Option<PathBuf>,
    pub(super) cgroup: PathBuf,
    pub(super) network: Option<StepNetwork>,
    /// Whether no other step may have its network namespace.
    pub(super) insecure: bool,
    process: Option<(ShimHandle, ShimEvents)>,
    /// What the step's mounts use.
    pub(super) held: Vec<Box<dyn Any + Send>>,
    over: bool,
}

impl Room {
    /// Makes the bundle's directory. Blocking.
    pub(super) fn new(engine: &Arc<Inner>, cgroup_parent: &str) -> Result<Self, BuildError> {
        let id = ContainerId::from_bytes(crate::random::bytes());
        let own = Some(cgroup_parent).filter(|parent| !parent.is_empty());
        let parent = own.or(engine.config.cgroup_parent.as_deref()).unwrap_or("/skep");
        let cgroup = Path::new("/").join(parent.trim_start_matches('/')).join(format!("build-{id}"));
        let bundle = directory(engine).join(id.to_string());
        make_dir(&bundle, 0o700).map_err(engine_error)?;
        Ok(Room {
            engine: Arc::clone(engine),
            id,
            bundle,
            secrets: None,
            cgroup,
            network: None,
            insecure: false,
            process: None,
            held: Vec::new(),
            over: false,
        })
    }

    /// A new directory of the bundle.
    pub(super) fn directory(&self, name: &str) -> Result<PathBuf, BuildError> {
        let path = self.bundle.join(name);
        make_dir(&path, 0o755).map_err(engine_error)?;
        Ok(path)
    }

    /// A directory in memory, for what must not get on a disk.
    pub(super) fn secrets(&mut self) -> Result<PathBuf, BuildError> {
        if let Some(path) = &self.secrets {
            return Ok(path.clone());
        }
        let name = format!("skep-build-{}", self.id);
        let own = self.bundle.clone();
        let places = [own.clone(), "/run".into(), "/dev/shm".into()];
        let place = places.into_iter().find(|place| is_memory(place)).ok_or_else(|| {
            BuildError::new(
                skep_types::ErrorKind::System,
                "a secret needs a directory in memory, and neither the exec root nor /run nor /dev/shm is one",
            )
        })?;
        let path = if place == own { own.join("secrets") } else { place.join(name) };
        self.secrets = Some(path.clone());
        make_dir(&path, 0o700).map_err(engine_error)?;
        Ok(path)
    }

    /// Writes the specification.
    pub(super) fn write(&self, spec: &Spec) -> Result<(), BuildError> {
        let text = serde_json::to_vec(spec).map_err(std::io::Error::from);
        text.and_then(|text| std::fs::write(self.bundle.join("config.json"), text))
            .map_err(failed("write the specification of a step"))
    }

    /// The network namespace, for the process to be.
    pub(super) fn namespace(&self) -> Result<Option<OwnedFd>, BuildError> {
        let duplicate = |network: &StepNetwork| network.netns.fd().try_clone_to_owned();
        self.network.as_ref().map(duplicate).transpose().map_err(failed("duplicate a descriptor"))
    }

    /// Plugs the network namespace in that a process in a user namespace has made for itself.
    pub(super) async fn plug(&mut self, wanted: Network, pid: i32) -> Result<(), BuildError> {
        if self.network.is_some() || wanted != Network::Default {
            return Ok(());
        }
        let engine = Arc::clone(&self.engine);
        let plugged = blocking(move || {
            networks::of_process(pid).and_then(|netns| engine.networks.plug_step_of(netns)).map_err(engine_error)
        });
        self.network = Some(plugged.await?);
        // Nobody else can use what belongs to this step's user namespace.
        self.insecure = true;
        Ok(())
    }

    /// A process runs in it from now on.
    pub(super) fn occupy(&mut self, shim: ShimHandle, events: ShimEvents) {
        self.process = Some((shim, events));
    }

    /// What happens to the process.
    pub(super) fn events(&mut self) -> Option<&mut ShimEvents> {
        self.process.as_mut().map(|(_, events)| events)
    }

    /// Clears away a step whose processes have all ended. Blocking.
    pub(super) fn leave(mut self) {
        self.over = true;
        if let Some((_, mut events)) = self.process.take() {
            // The shim has said its last word and is about to end; someone has to reap it.
            self.engine.tasks.spawn(async move { while let Ok(Some(_)) = events.next().await {} });
        }
        clear(&self.engine, &self.bundle, self.secrets.as_deref());
        release(&self.engine, self.network.take(), self.insecure);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let engine = Arc::clone(&self.engine);
        let (bundle, cgroup, secrets) =
            (std::mem::take(&mut self.bundle), std::mem::take(&mut self.cgroup), self.secrets.take());
        let (network, insecure, held) = (self.network.take(), self.insecure, std::mem::take(&mut self.held));
        let process = self.process.take();
        let clearing = async move {
            if let Some((shim, mut events)) = process {
                let gone = async {
                    let _ = shim.kill(Target::Container, Signal::KILL, Scope::All).await;
                    while let Ok(Some(_)) = events.next().await {}
                };
                let _ = tokio::time::timeout(SETTLING, gone).await;
            }
            let cleared = tokio::task::spawn_blocking(move || {
                let ended = bundle::end_leftovers(&cgroup);
                let left = ended.is_err();
                if let Err(error) = ended {
                    tracing::warn!(%error, "ending a step of a build");
                }
                clear(&engine, &bundle, secrets.as_deref());
                // What a process may still be in is not given to another step.
                release(&engine, network, insecure || left);
                drop(held);
            });
            // A worker that broke down has said so.
            let _ = cleared.await;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(self.engine.tasks.spawn_on(clearing, &runtime)),
            Err(_) => tracing::warn!("a step of a build is cleared away at the next start"),
        }
    }
}

/// Where steps have their bundles.
pub(super) fn directory(engine: &Inner) -> PathBuf {
    engine.config.exec_root.join("builds")
}

fn is_memory(path: &Path) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    rustix::fs::statfs(path).is_ok_and(|found| matches!(found.f_type, TMPFS | RAMFS))
}

fn clear(engine: &Inner, bundle: &Path, secrets: Option<&Path>) {
    for path in secrets.into_iter().chain([bundle]) {
        let gone = match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        if let Err(error) = gone {
            tracing::warn!(path = %path.display(), %error, root = %engine.config.exec_root.display(), "clearing a step away");
        }
    }
}

fn release(engine: &Arc<Inner>, network: Option<StepNetwork>, insecure: bool) {
    let Some(network) = network else { return };
    if !insecure {
        return sandboxes::give_back(engine, network);
    }
    if let Err(error) = engine.networks.unplug_step(network) {
        tracing::warn!(%error, "unplugging a step of a build");
    }
}

/// Ends what steps of an earlier daemon left. Blocking.
pub(crate) fn sweep(engine: &Inner) {
    let Ok(entries) = std::fs::read_dir(directory(engine)) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let cgroup = Spec::load(&path).ok().and_then(|spec| spec.linux().cgroups_path.clone());
        if let Some(Err(error)) = cgroup.as_deref().map(bundle::end_leftovers) {
            tracing::warn!(%error, "ending a step of an earlier build");
        }
        let name = format!("skep-build-{}", path.file_name().unwrap_or_default().to_string_lossy());
        for secrets in ["/run", "/dev/shm"].map(|place| Path::new(place).join(&name)) {
            clear(engine, &path, Some(&secrets));
        }
    }
}

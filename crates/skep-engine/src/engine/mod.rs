//! The engine's operations, one file per family of objects.

mod archive;
mod build;
mod check;
mod commit;
mod containers;
mod exec;
mod explain;
mod networks;
mod prune;
mod streams;
mod system;
mod volumes;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::containers::exec::Execs;
use crate::containers::index::Index;
use crate::containers::record::Record;
use crate::containers::restore;
use crate::containers::rootfs::Identities;
use crate::events::Events;
use crate::images::{Guards, Images};
use crate::model::event::EventType;
use crate::model::view::ContainerView;
use crate::networks::Networks;
use crate::storage::{Storage, make_dir};
use crate::volumes::Volumes;
use crate::{EngineConfig, Error, Result};

pub(crate) use system::limit_support;

/// One container engine over its two roots. Cheap to clone; all clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: EngineConfig,
    pub(crate) storage: Arc<Storage>,
    pub(crate) images: Images,
    pub(crate) volumes: Volumes,
    pub(crate) networks: Networks,
    pub(crate) events: Arc<Events>,
    pub(crate) containers: Index,
    pub(crate) execs: Execs,
    pub(crate) identities: Identities,
    pub(crate) builds: crate::build::Builds,
    /// Owner tasks.
    pub(crate) tasks: TaskTracker,
    closing: CancellationToken,
}

impl Engine {
    /// Opens the roots, re-connects to containers that run, applies restart policies. A second engine over the same roots is
    /// refused.
    pub async fn open(config: EngineConfig) -> Result<Self> {
        let events = Arc::new(Events::new());
        let sink = events.clone();
        let (inner, records) = blocking(move || {
            make_roots(&config)?;
            let storage = Arc::new(Storage::open(&config.data_root)?);
            crate::userns::check(&config)?;
            let cache = skep_build::Cache::open(storage.store().db().clone())
                .map_err(|e| Error::system("reading the build cache", e))?;
            let images = open_images(&config, storage.clone(), cache.clone(), sink.clone())?;
            let volumes = Volumes::open(config.data_root.join("volumes"), storage.clone())?;
            let records = storage.containers()?;
            let endpoints = records.iter().flat_map(|record| record.nets.clone()).collect();
            let (networks, restored) = Networks::open(&config, &storage, endpoints)?;
            for (container, published, holder) in &restored.contested {
                tracing::warn!(%container, port = published.host_port, "a published port was taken meanwhile by {holder}");
            }
            for (network, error) in &restored.failed {
                tracing::error!(%network, %error, "a network could not be restored");
            }
            let inner = Inner {
                config,
                storage,
                images,
                volumes,
                networks,
                events: sink,
                containers: Index::default(),
                execs: Execs::default(),
                identities: Identities::default(),
                builds: crate::build::Builds::new(cache),
                tasks: TaskTracker::new(),
                closing: CancellationToken::new(),
            };
            crate::build::sweep(&inner);
            Ok((Arc::new(inner), records))
        })
        .await?;
        inner.tasks.spawn(empty_trash(inner.storage.clone(), inner.closing.clone()));
        restore::all(&inner, records).await?;
        let engine = Engine { inner };
        engine.tidy().await;
        engine.inner.tasks.spawn(crate::gc::watch(engine.inner.clone()));
        let inner = engine.inner.clone();
        engine.inner.tasks.spawn_blocking(move || inner.networks.report_obstacles());
        Ok(engine)
    }

    pub(crate) fn from_inner(inner: Arc<Inner>) -> Self {
        Engine { inner }
    }

    /// How it was set up.
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// Lets go of everything but the containers, which go on.
    pub async fn close(&self) {
        for handle in self.inner.containers.all() {
            let (reply, closed) = tokio::sync::oneshot::channel();
            if handle.commands.send(crate::containers::task::Command::Close(reply)).await.is_ok() {
                let _ = closed.await;
            }
        }
        self.inner.closing.cancel();
        crate::build::close(&self.inner).await;
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// What builds have of this machine.
    pub fn machine(&self) -> crate::build::Machine {
        crate::build::Machine::of(&self.inner)
    }

    pub(crate) fn views(&self) -> Vec<Arc<ContainerView>> {
        self.inner.containers.all().iter().map(|handle| handle.view()).collect()
    }
}

impl Inner {
    /// Cancelled when the engine closes.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Tells the world what happened to a container.
    pub(crate) fn container_event<const N: usize>(&self, record: &Record, action: &str, more: [(&str, String); N]) {
        let mut attributes: BTreeMap<String, String> = record.config.labels.clone();
        attributes.insert("image".to_owned(), record.config.image.clone());
        attributes.insert("name".to_owned(), record.name.to_string());
        attributes.extend(more.into_iter().map(|(key, value)| (key.to_owned(), value)));
        self.events.emit(EventType::Container, action, record.id.to_string(), attributes);
    }
}

/// Deletes what is thrown away, as it comes, until the engine closes. What an earlier daemon left goes first.
async fn empty_trash(storage: Arc<Storage>, closing: CancellationToken) {
    let bell = Arc::new(Notify::new());
    let rung = bell.clone();
    storage.store().trash().on_discard(move || rung.notify_one());
    loop {
        let storage = storage.clone();
        // A worker that broke down has said so; the next bell tries again.
        let _ = tokio::task::spawn_blocking(move || storage.empty_trash()).await;
        tokio::select! {
            () = bell.notified() => {}
            () = closing.cancelled() => return,
        }
    }
}

/// Runs blocking work on tokio's threads for it. Work that was begun is finished, also if the caller goes away.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::system("a worker thread of the engine", error)),
    }
}

fn make_roots(config: &EngineConfig) -> Result<()> {
    for (path, mode) in [
        (config.data_root.clone(), 0o710),
        (config.data_root.join("containers"), 0o710),
        (config.exec_root.clone(), 0o711),
        (config.exec_root.join("containers"), 0o700),
    ] {
        make_dir(&path, mode)?;
    }
    Ok(())
}

fn open_images(
    config: &EngineConfig,
    storage: Arc<Storage>,
    cache: skep_build::Cache,
    events: Arc<Events>,
) -> Result<Images> {
    let mut registry = skep_registry::RegistryConfig::default();
    registry.insecure.clone_from(&config.insecure_registries);
    registry.mirrors.clone_from(&config.registry_mirrors);
    if let Some(dirs) = &config.certificate_dirs {
        registry.certificate_dirs.clone_from(dirs);
    }
    registry.proxies.clone_from(&config.proxies);
    registry.max_concurrent_downloads = config.max_concurrent_downloads;
    registry.max_concurrent_uploads = config.max_concurrent_uploads;
    registry.max_download_attempts = config.max_download_attempts;
    let sink = Arc::new(move |event: crate::model::event::Event| {
        events.emit(event.kind, event.action, event.actor, event.attributes);
    });
    let guards = Guards { policy: config.signature_policy.clone(), limits: config.unpack_limits };
    let store = storage.store().clone();
    // Layers stay for stored containers, and for what builds may use again.
    let others = Arc::new(move || {
        let mut tops = storage.container_layers(|_| true)?;
        tops.extend(cache.roots());
        Ok(tops)
    });
    Ok(Images::open(store, registry, guards, sink, others)?)
}

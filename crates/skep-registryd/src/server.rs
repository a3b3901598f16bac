//! Putting a registry together: its root, its listener, its end.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Authority;
use crate::cache::{Cache, CacheConfig};
use crate::collect::Retention;
use crate::content::{Clients, Content, METADATA, Parts};
use crate::control;
use crate::error::Error;
use crate::http::server::{Access, Listener, Offer, Shared, serve};
use crate::maintenance::{self, Maintenance};
use crate::metrics::Metrics;
use crate::reload::Reloader;
use crate::storage::{Location, Storage, StorageError};
use crate::tls::{Identity, TlsError, TlsFiles};

/// How a registry is to run.
#[derive(Debug)]
pub struct Settings {
    /// Where everything is kept.
    pub root: PathBuf,
    /// Where clients connect; port 0 for any.
    pub listen: SocketAddr,
    /// What clients may do at all.
    pub access: Access,
    /// Where the content is; without, where it always was.
    pub storage: Option<Location>,
    /// Who may do what.
    pub authority: Arc<Authority>,
    /// The registry's identity; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// A listener of their own for metrics and health, in plain HTTP and without authentication.
    pub metrics_listen: Option<SocketAddr>,
    /// What a repository has to have of what a manifest names.
    pub parts: Parts,
    /// Other registries that this one is a copy of.
    pub cache: Option<CacheConfig>,
    /// What it does by itself.
    pub maintenance: Maintenance,
    /// Which tags stay.
    pub retention: Retention,
    /// How long requests may go on after the end was asked for.
    pub grace: Duration,
}

impl Settings {
    /// Reading and changing, for everybody, and ten seconds to end.
    pub fn new(root: PathBuf, listen: SocketAddr) -> Self {
        Settings {
            root,
            listen,
            access: Access::ReadWrite,
            storage: None,
            authority: Arc::default(),
            tls: None,
            metrics_listen: None,
            parts: Parts::All,
            cache: None,
            maintenance: Maintenance::default(),
            retention: Retention::default(),
            grace: Duration::from_secs(10),
        }
    }
}

/// Why a registry does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The root can't be made.
    #[error("can't make {path}: {source}", path = path.display())]
    Root {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("{} is in use by another registry", .0.display())]
    InUse(PathBuf),
    /// There is content, but nothing that says whose: the next garbage collection would take all of it.
    #[error(
        "there is content in the storage of {root}, but no {file} there, which says whose it is: bring that file back, \
         or begin with an empty storage",
        root = .0.display(),
        file = METADATA
    )]
    Orphaned(PathBuf),
    /// What is there can't be used.
    #[error("{0}")]
    Content(#[from] Error),
    /// The content can't be reached.
    #[error("{0}")]
    Storage(#[from] StorageError),
    /// The identity can't be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// Nobody could connect.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// A registry that listens.
pub struct Registry {
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    grace: Duration,
}

impl Registry {
    /// Opens the root and the listener; clients wait until [`Registry::run`].
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        make_root(&settings.root)?;
        let storage = Location::open(&settings.root, settings.storage.as_ref())?;
        if !settings.root.join(METADATA).exists() && !storage.list().await?.is_empty() {
            return Err(StartError::Orphaned(settings.root));
        }
        let content = open_with(&settings.root, storage, Clients::Served)?;
        let identity = settings.tls.map(Identity::open).transpose()?.map(Arc::new);
        let offer = if settings.metrics_listen.is_some() { Offer::Registry } else { Offer::All };
        let (listener, address) = listen(settings.listen, identity.clone(), offer).await?;
        let mut listeners = vec![listener];
        let mut metrics_address = None;
        if let Some(own) = settings.metrics_listen {
            let (listener, address) = listen(own, None, Offer::Metrics).await?;
            listeners.push(listener);
            metrics_address = Some(address);
        }
        let shared = Arc::new(Shared {
            content: Arc::new(content),
            access: settings.access,
            authority: settings.authority,
            metrics: Metrics::new(),
            parts: settings.parts,
            cache: settings.cache.map(|config| Arc::new(Cache::new(config))),
            maintenance: settings.maintenance,
            retention: settings.retention.into(),
            identity,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        match control::listen(&settings.root) {
            Ok(listener) => drop(shared.tasks.spawn(control::serve(shared.clone(), listener))),
            // The path of a socket may not be long; all else works without it.
            Err(error) => tracing::warn!(%error, "no control socket: garbage is collected by the registry itself only"),
        }
        shared.tasks.spawn(maintenance::run(shared.clone()));
        Ok(Registry { shared, listeners, address, metrics_address, grace: settings.grace })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics have a listener of their own.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// For reading its files again while it runs.
    pub fn reloader(&self) -> Reloader {
        Reloader(Arc::downgrade(&self.shared))
    }

    /// Serves until `shutdown`, and then until its requests are done.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        serve(self.shared, self.listeners, self.grace, shutdown).await;
    }
}

async fn listen(
    address: SocketAddr,
    identity: Option<Arc<Identity>>,
    offer: Offer,
) -> Result<(Listener, SocketAddr), StartError> {
    let fail = |source| StartError::Listen { address, source };
    let socket = TcpListener::bind(address).await.map_err(fail)?;
    let bound = socket.local_addr().map_err(fail)?;
    Ok((Listener { socket, identity, offer }, bound))
}

/// Opens the content of `root` for whoever is alone with it; without a `location` it is where it always was.
pub fn open(root: &Path, location: Option<&Location>, clients: Clients) -> Result<Content, StartError> {
    make_root(root)?;
    open_with(root, Location::open(root, location)?, clients)
}

fn make_root(root: &Path) -> Result<(), StartError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
    made.map_err(|source| StartError::Root { path: root.to_owned(), source })
}

fn open_with(root: &Path, storage: Arc<dyn Storage>, clients: Clients) -> Result<Content, StartError> {
    Content::open(root, storage, clients).map_err(|error| match error {
        Error::Metadata(skep_store::DbError::InUse(_)) => StartError::InUse(root.to_owned()),
        other => other.into(),
    })
}

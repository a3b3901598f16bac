//! Putting a registry together: its root, its listener, its end.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::content::{Clients, Content, Parts};
use crate::control;
use crate::error::Error;
use crate::http::server::{Access, Listener, Shared, bind, serve};
use crate::maintenance::{self, Maintenance};
use crate::storage::{Directory, StorageError};

/// How a registry is to run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where everything is kept.
    pub root: PathBuf,
    /// Where clients connect; port 0 for any.
    pub listen: SocketAddr,
    /// What clients may do at all.
    pub access: Access,
    /// What a repository has to have of what a manifest names.
    pub parts: Parts,
    /// What it does by itself.
    pub maintenance: Maintenance,
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
            parts: Parts::All,
            maintenance: Maintenance::default(),
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
    /// What is there can't be used.
    #[error("{0}")]
    Content(#[from] Error),
    /// The content can't be reached.
    #[error("{0}")]
    Storage(#[from] StorageError),
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
    listener: Listener,
    address: SocketAddr,
    grace: Duration,
}

impl Registry {
    /// Opens the root and the listener; clients wait until [`Registry::run`].
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let content = open(&settings.root, Clients::Served)?;
        let fail = |source| StartError::Listen { address: settings.listen, source };
        let socket = bind(settings.listen).await.map_err(fail)?;
        let address = socket.local_addr().map_err(fail)?;
        let shared = Arc::new(Shared {
            content: Arc::new(content),
            access: settings.access,
            parts: settings.parts,
            maintenance: settings.maintenance,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        match control::listen(&settings.root) {
            Ok(listener) => drop(shared.tasks.spawn(control::serve(shared.clone(), listener))),
            // The path of a socket may not be long; all else works without it.
            Err(error) => tracing::warn!(%error, "no control socket: garbage is collected by the registry itself only"),
        }
        shared.tasks.spawn(maintenance::run(shared.clone()));
        Ok(Registry { shared, listener: Listener { socket, tls: None }, address, grace: settings.grace })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, and then until its requests are done.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        serve(self.shared, self.listener, self.grace, shutdown).await;
    }
}

/// Opens the content below `root` for whoever is alone with it.
pub fn open(root: &Path, clients: Clients) -> Result<Content, StartError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
    made.map_err(|source| StartError::Root { path: root.to_owned(), source })?;
    let storage = Directory::open(root.join("content"))?;
    Content::open(root, Arc::new(storage), clients).map_err(|error| match error {
        Error::Metadata(skep_store::DbError::InUse(_)) => StartError::InUse(root.to_owned()),
        other => other.into(),
    })
}

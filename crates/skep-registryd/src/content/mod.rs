//! What the registry holds: repositories, their blobs, manifests and tags, over a [`Storage`] and a database.
//!
//! Locks and their order:
//! 1. an upload's slot ([`uploads`]);
//! 2. the stripe of a digest: whoever brings content into the storage or takes it out holds it until the database says so too;
//! 3. the database's writer: every change of metadata is one transaction, in which all that it relies on is looked at again.
//!
//! So a manifest is there together with its tag and its place among the referrers, or not at all; it never names a blob that its
//! repository lacks; and content without a row in the database is left over from a crash, never in use.

mod blobs;
pub(crate) mod leases;
mod listing;
mod manifests;
mod partial;
pub(crate) mod tables;
pub(crate) mod uploads;

use std::path::Path;
use std::sync::Arc;

use skep_store::{Db, ReadTx, WriteTx};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::spawn_blocking;

pub use blobs::Mount;
pub(crate) use blobs::{forget, unlink};
pub(crate) use listing::referrers_index;
pub use manifests::{Parts, StoredManifest};
pub(crate) use manifests::{drop_tag, erase, tags as all_tags};

use crate::digest::ContentDigest;
use crate::error::{Error, Result};
use crate::name::RepositoryName;
use crate::storage::Storage;
use leases::Leases;
use tables::{CONTENT, ContentRecord, HOLDERS, Moment, REPOSITORIES, RepositoryRecord, Rows, holder, now};
use uploads::Uploads;

/// The file of a root that holds the metadata.
pub(crate) const METADATA: &str = "registry.redb";

/// How many digests share a lock.
const STRIPES: usize = 64;

/// Who else uses what is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Clients, of which some may have been served by an earlier process a moment ago.
    Served,
    /// Nobody.
    None,
}

/// Repositories and their content. One process at a time has it.
pub struct Content {
    db: Db,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) uploads: Uploads,
    stripes: Vec<Mutex<()>>,
    pub(crate) leases: Arc<Leases>,
    /// When clients began to be told what is there; long ago if there are none.
    pub(crate) started: Moment,
    /// Held by who collects garbage.
    pub(crate) collecting: Mutex<()>,
}

impl Content {
    /// Opens what is below `root`: the metadata and unfinished uploads, with `storage` for the rest.
    pub fn open(root: &Path, storage: Arc<dyn Storage>, clients: Clients) -> Result<Self> {
        Ok(Content {
            db: Db::open(&root.join(METADATA))?,
            storage,
            uploads: Uploads::open(root.join("uploads")).map_err(Error::Upload)?,
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            leases: Arc::default(),
            started: match clients {
                Clients::Served => now(),
                Clients::None => Moment::MIN,
            },
            collecting: Mutex::default(),
        })
    }

    /// Reads a snapshot, on a blocking thread.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        body: impl FnOnce(&ReadTx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let db = self.db.clone();
        spawn_blocking(move || db.read(body)).await?
    }

    /// One durable change, on a blocking thread. It goes on when its caller is gone.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        body: impl FnOnce(&WriteTx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let db = self.db.clone();
        spawn_blocking(move || db.write(body)).await?
    }

    /// Keeps others from bringing or taking content of this digest (and of some more).
    pub(crate) async fn stripe(&self, digest: &ContentDigest) -> MutexGuard<'_, ()> {
        self.stripes[stripe_of(digest)].lock().await
    }
}

/// The number of a digest's stripe.
pub(crate) fn stripe_of(digest: &ContentDigest) -> usize {
    usize::from(digest.bytes()[0]) % STRIPES
}

/// Notes that the storage has content and that a repository needs it.
fn hold(tx: &WriteTx, repository: &RepositoryName, digest: &ContentDigest, size: u64) -> Result<()> {
    if tx.row(&CONTENT, &digest.to_string())?.is_none() {
        tx.put(&CONTENT, &digest.to_string(), &ContentRecord { size, since: now() })?;
    }
    tx.put(&HOLDERS, &holder(digest, repository), &())?;
    Ok(())
}

/// Notes that manifests or tags of a repository change; it comes into being with the first change.
fn touch_repository(tx: &WriteTx, repository: &RepositoryName) -> Result<()> {
    let name = repository.to_string();
    let mut record = tx.row(&REPOSITORIES, &name)?.unwrap_or(RepositoryRecord { created: now(), generation: 0 });
    record.generation += 1;
    tx.put(&REPOSITORIES, &name, &record)?;
    Ok(())
}

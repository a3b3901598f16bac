//! The data root: blobs, image layers, containers' own layers and the metadata database.
//!
//! ```text
//! D/meta.redb                     Db: typed tables, one commit per user action; locked by the one daemon that has it open
//! D/blobs/sha256/<hex>            Blobs: content by digest (image configurations, manifests)
//! D/layers/<short>/fs             Layers: an unpacked layer in overlayfs' own format
//! D/layers/<short>/split          what its archive holds besides file contents, so that it can be made again byte by byte
//! D/containers/<id>/rw/{upper,work}  Containers: what a container writes
//! D/partial/<hex>                 Partials: the first bytes of blobs whose download was cut short; expire
//! D/recovered/<id>                what containers wrote that were in a database that is gone
//! D/staging/<random>              all that is not finished; emptied at start
//! D/trash/<random>                all that is not wanted any more; emptied in the background
//! ```
//! Invariants: nothing becomes visible before its bytes are on the disk; what is visible is whole; a crash at any point
//! leaves only files below `staging`, `trash`, or layer directories that the database doesn't name, and all of these are
//! moved to the trash when the store is opened. The database is the truth about layers, the file system about blobs.
//!
//! All calls block; the engine makes them from blocking threads. A [`Store`] is cheap to clone.
#![warn(missing_docs)]

mod blobs;
mod chain;
mod check;
mod containers;
mod crash;
mod db;
mod error;
mod layers;
mod partials;
mod trash;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use blobs::{Blobs, Ingest, StagedBlob};
pub use chain::{ChainId, Sha256};
pub use check::{Stray, Verdict};
pub use containers::Containers;
pub use crash::crash_point;
pub use db::{Db, DbError, Key, ReadTx, Table, WriteTx};
pub use error::StoreError;
pub use layers::{LayerInfo, LayerLease, LayerTar, Layers, StagedLayer, Staging, UnpackOptions, UpperDir};
pub use partials::{Partial, PartialInfo, Partials};
pub use skep_fs::apply::Limits;
pub use trash::Trash;

/// How long the part of a blob is kept that nobody asks the rest of.
pub const PARTIAL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The opened data root.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    db: Db,
    trash: Trash,
    blobs: Blobs,
    layers: Layers,
    partials: Partials,
    containers: Containers,
}

impl Store {
    /// Opens the data root `root`, making what is missing, and moves to the trash what an earlier run left unfinished.
    /// Fails when another daemon has it open. Call [`Store::empty_trash`] in the background afterwards.
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        make_dir(root, 0o711)?;
        let root = std::fs::canonicalize(root).map_err(|source| StoreError::io("open", root, source))?;
        refuse_an_emptied_database(&root)?;
        let db = Db::open(&root.join("meta.redb"))?;
        for (name, mode) in [("layers", 0o711), ("containers", 0o711), ("volumes", 0o711)] {
            make_dir(&root.join(name), mode)?;
        }
        for name in ["blobs", "blobs/sha256", "partial", "staging", "trash"] {
            make_dir(&root.join(name), 0o700)?;
        }
        spread(&root.join("staging"));
        let trash = Trash::new(root.join("trash"));
        trash.discard_children(&root.join("staging"))?;
        let blobs = Blobs::new(root.join("blobs/sha256"), root.join("staging"));
        let layers = Layers::open(root.join("layers"), root.join("staging"), db.clone(), trash.clone())?;
        let partials = Partials::new(root.join("partial"));
        partials.expire(PARTIAL_AGE)?;
        if db.is_new() {
            recover_containers(&root)?;
        }
        let containers = Containers::new(root.join("containers"), layers.clone(), trash.clone());
        Ok(Store { inner: Arc::new(Inner { root, db, trash, blobs, layers, partials, containers }) })
    }

    /// The data root's absolute path.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The metadata database.
    pub fn db(&self) -> &Db {
        &self.inner.db
    }

    /// Content by digest.
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// Image layers.
    pub fn layers(&self) -> &Layers {
        &self.inner.layers
    }

    /// Blobs of which a part is here.
    pub fn partials(&self) -> &Partials {
        &self.inner.partials
    }

    /// Deletes partial blobs that nothing came for in [`PARTIAL_AGE`].
    pub fn expire_partials(&self) -> Result<u64, StoreError> {
        self.inner.partials.expire(PARTIAL_AGE)
    }

    /// Containers' directories and read-write layers.
    pub fn containers(&self) -> &Containers {
        &self.inner.containers
    }

    /// Where files go that nobody needs any more.
    pub fn trash(&self) -> &Trash {
        &self.inner.trash
    }

    /// Deletes what is in the trash; returns how many things those were. Slow: for a background thread.
    pub fn empty_trash(&self) -> Result<usize, StoreError> {
        self.inner.trash.empty()
    }
}

/// A database file that was cut to nothing looks like a new one, and all that it named like left-overs.
fn refuse_an_emptied_database(root: &Path) -> Result<(), StoreError> {
    let path = root.join("meta.redb");
    let emptied = std::fs::metadata(&path).is_ok_and(|found| found.len() == 0);
    let holds = |name: &str| std::fs::read_dir(root.join(name)).is_ok_and(|mut entries| entries.next().is_some());
    match emptied && (holds("layers") || holds("containers")) {
        true => Err(DbError::Damaged { path, reason: "the file is empty".to_owned() }.into()),
        false => Ok(()),
    }
}

/// A new database beside containers' directories: the old one is gone, and what the containers wrote belongs to the user.
fn recover_containers(root: &Path) -> Result<(), StoreError> {
    for path in trash::children(&root.join("containers"))? {
        let target = root.join("recovered");
        make_dir(&target, 0o700)?;
        let target = target.join(path.file_name().unwrap_or_default());
        std::fs::rename(&path, &target).map_err(|source| StoreError::io("rename", &path, source))?;
        tracing::warn!(path = %target.display(), "a container that no database knows: what it wrote is kept here");
    }
    Ok(())
}

/// Tells ext4 that what is made in this directory has nothing to do with one another, as `chattr +T` does. Layers are spread over the
/// disk then, rather than put where the last ones were: after a removal the file system looks at each of the inodes that became
/// free there, for every file it makes, and passes over it. To import 15 000 files just after as many were removed costs the daemon 0.6 s
/// of processor time then, and 4.6 s without (ext4, Linux 6.18).
fn spread(dir: &Path) {
    let flags = std::fs::File::open(dir).map_err(|_| rustix::io::Errno::NOENT).and_then(|dir| {
        rustix::fs::ioctl_setflags(&dir, rustix::fs::ioctl_getflags(&dir)? | rustix::fs::IFlags::TOPDIR)
    });
    if let Err(error) = flags {
        tracing::debug!(%error, "the file system takes no advice on where to put layers");
    }
}

/// Makes a directory with exactly `mode`, and what is missing above it.
fn make_dir(path: &Path, mode: u32) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
        .map_err(|source| StoreError::io("create", path, source))
}

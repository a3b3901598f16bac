//! The open file, and opening it again after a failed write: redb does no more work after one, as it can't know what reached the
//! disk. The file itself holds the last commit, so a full disk must not end the daemon's work.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{MappedRwLockReadGuard, MappedRwLockWriteGuard, RwLockReadGuard, RwLockWriteGuard};
use rustix::fs::FallocateFlags;

use super::{CACHE_BYTES, Db, DbError, Shared, classify, guard};

/// How long opening again waits for transactions that are about to fail.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn open_file(path: &Path) -> Result<redb::Database, DbError> {
    guard(path, || {
        redb::Builder::new().set_cache_size(CACHE_BYTES).create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => DbError::InUse(path.to_owned()),
            other => classify(path, other.into()),
        })
    })
}

impl Db {
    /// The open file for one transaction.
    pub(super) fn opened(&self) -> Result<MappedRwLockReadGuard<'_, redb::Database>, DbError> {
        if self.shared.failed.load(Ordering::Acquire) {
            self.open_again()?;
        }
        // Recursive: who reads may read again while compaction waits for its turn.
        let open = self.shared.redb.read_recursive();
        RwLockReadGuard::try_map(open, Option::as_ref).map_err(|_| self.closed())
    }

    /// The open file for work that nothing else may go on beside.
    pub(super) fn opened_alone(&self) -> Result<MappedRwLockWriteGuard<'_, redb::Database>, DbError> {
        if self.shared.failed.load(Ordering::Acquire) {
            self.open_again()?;
        }
        RwLockWriteGuard::try_map(self.shared.redb.write(), Option::as_mut).map_err(|_| self.closed())
    }

    fn open_again(&self) -> Result<(), DbError> {
        let Some(mut slot) = self.shared.redb.try_write_for(PATIENCE) else { return Ok(()) };
        if self.shared.failed.load(Ordering::Acquire) {
            // The old one holds the lock on the file.
            drop(slot.take());
            *slot = Some(open_file(&self.shared.path)?);
            self.shared.failed.store(false, Ordering::Release);
            tracing::info!(path = %self.shared.path.display(), "the database was opened again after a failed write");
        }
        Ok(())
    }

    fn closed(&self) -> DbError {
        let source = std::io::Error::other("it could not be opened again after a failed write");
        DbError::Io { path: self.shared.path.clone(), source }
    }
}

impl Shared {
    /// Gives the file the blocks that it may need up to its present end. redb grows it with holes, and on a full disk a change in one
    /// of them would fail, such as the removal of what fills the disk.
    pub(super) fn reserve(&self) {
        let size = std::fs::metadata(&self.path).map_or(0, |found| found.len());
        if size <= self.reserved.load(Ordering::Relaxed) {
            return;
        }
        // The locks on it are those of redb's descriptor: closing another one does not end them.
        let opened = std::fs::File::options().write(true).open(&self.path);
        match opened.and_then(|file| Ok(rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, size)?)) {
            Ok(()) => self.reserved.store(size, Ordering::Relaxed),
            // Not every file system can, and all else works without. A full one is asked again.
            Err(error) => tracing::debug!(path = %self.path.display(), %error, "no room was reserved for the database"),
        }
    }

    /// The error for what redb reports. After a failed write or read of the file it has to be opened again.
    pub(super) fn failure(&self, error: impl Into<redb::Error>) -> DbError {
        let error = error.into();
        if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo) {
            self.failed.store(true, Ordering::Release);
        }
        classify(&self.path, error)
    }
}

//! Giving back the room that deleted records had: redb keeps freed pages in its file until it is compacted.

use std::sync::atomic::Ordering;

use super::{Db, DbError, guard};

/// Bytes that have to be free in the file before compacting is worth the rewriting.
const WORTH_BYTES: u64 = 1 << 20;

impl Db {
    /// Compacts the file if a good part of it is free; returns the bytes given back. Other transactions wait meanwhile, so
    /// this is for a moment when nothing goes on. Costs nothing when nothing was written since the last call.
    pub fn compact_if_worth(&self) -> Result<u64, DbError> {
        if !self.shared.changed.swap(false, Ordering::Relaxed) {
            return Ok(0);
        }
        let size = self.file_size()?;
        if size.saturating_sub(self.needed()?) < WORTH_BYTES.max(size / 2) {
            return Ok(0);
        }
        self.compact()
    }

    /// Compacts the file; returns the bytes given back.
    pub fn compact(&self) -> Result<u64, DbError> {
        let before = self.file_size()?;
        guard(&self.shared.path, || {
            let mut redb = self.opened_alone()?;
            // Nobody else can have a transaction open, so it only fails as a write does.
            redb.compact().map(drop).map_err(|error| self.shared.failure(error))
        })?;
        // It was cut, and blocks beyond the end are gone.
        self.shared.reserved.store(0, Ordering::Relaxed);
        self.shared.reserve();
        Ok(before.saturating_sub(self.file_size()?))
    }

    /// Whether all checksums in the file are right. What redb could mend by itself (an unclean end) is mended then. Other
    /// transactions wait meanwhile.
    pub fn is_sound(&self) -> Result<bool, DbError> {
        guard(&self.shared.path, || {
            let mut redb = self.opened_alone()?;
            redb.check_integrity().map_err(|error| self.shared.failure(error))
        })
    }

    /// Bytes of the file.
    pub fn file_size(&self) -> Result<u64, DbError> {
        let metadata = std::fs::metadata(&self.shared.path);
        metadata.map(|found| found.len()).map_err(|source| DbError::Io { path: self.shared.path.clone(), source })
    }

    /// Bytes in pages that something is stored in.
    fn needed(&self) -> Result<u64, DbError> {
        guard(&self.shared.path, || {
            let redb = self.opened()?;
            let transaction = redb.begin_write().map_err(|error| self.shared.failure(error))?;
            let stats = transaction.stats().map_err(|error| self.shared.failure(error))?;
            transaction.abort().map_err(|error| self.shared.failure(error))?;
            Ok(stats.allocated_pages() * stats.page_size() as u64)
        })
    }
}

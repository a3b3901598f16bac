//! Layers that are visible before they are durable: a build commits one for each of its steps and waits for the disk once.
//!
//! ```text
//! StagedLayer ──commit_pending──▶ pending (in memory) ──flush──▶ in the database
//!               rename                               one syncfs, one commit for all
//! ```
//! A pending layer is found, stood upon and held like any other. It isn't collected, and not between the flush that stored it and the
//! next one either: whoever made it has not got round to holding it yet. What a crash leaves of it is a directory that the database
//! doesn't name, which goes when the store is opened. Whatever stores a durable fact about layers calls [`Layers::flush`] before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use skep_fs::atomic::sync_dir;

use super::{LAYERS, LayerInfo, Layers, StagedLayer};
use crate::chain::ChainId;
use crate::crash::crash_point;
use crate::error::StoreError;

/// The layers that are not in the database yet.
pub(super) type Pending = BTreeMap<ChainId, LayerInfo>;
/// The layers that the last flush stored.
pub(super) type Young = BTreeSet<ChainId>;

impl Layers {
    /// Makes a layer visible on top of `parent` without waiting for the disk; one that is there already is dropped. It becomes durable
    /// with the next [`flush`](Self::flush).
    pub fn commit_pending(&self, parent: Option<&ChainId>, layer: StagedLayer) -> Result<ChainId, StoreError> {
        let _one_at_a_time = self.changing.lock();
        let chain = ChainId::of(parent, &layer.diff_id);
        if self.get(&chain)?.is_some() {
            return Ok(chain);
        }
        let lower = parent.map(|parent| self.lower_dirs(parent)).transpose()?.unwrap_or_default();
        layer.take_from_below(&lower)?;
        let path = self.rename_in(&layer.dir.path)?;
        let info = layer.info(parent.copied(), &path);
        self.pending.write().insert(chain, info);
        Ok(chain)
    }

    /// Makes all pending layers durable. Does nothing when there are none.
    pub fn flush(&self) -> Result<(), StoreError> {
        let fresh: Pending = self.pending.read().clone();
        if fresh.is_empty() {
            self.young.lock().clear();
            return Ok(());
        }
        let fail = |source| StoreError::io("flush", &self.dir, source);
        let dir = File::open(&self.dir).map_err(fail)?;
        crash_point("layers-pending");
        rustix::fs::syncfs(&dir).map_err(|error| fail(error.into()))?;
        sync_dir(&self.dir).map_err(fail)?;
        let _one_at_a_time = self.changing.lock();
        self.store_pending(fresh)
    }

    /// Stores those of `fresh`, whose files are on the disk, that were not removed meanwhile. The caller has the right to change the set.
    pub(super) fn store_pending(&self, mut fresh: Pending) -> Result<(), StoreError> {
        fresh.retain(|chain, _| self.pending.read().contains_key(chain));
        self.db.write(|tx| fresh.iter().try_for_each(|(chain, info)| tx.put(&LAYERS, chain, info)))?;
        *self.young.lock() = fresh.keys().copied().collect();
        // Only now: readers look here first, so that they find a layer in one of the two at any moment.
        self.pending.write().retain(|chain, _| !fresh.contains_key(chain));
        Ok(())
    }
}

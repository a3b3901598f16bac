//! Mending a layer: its directory is replaced by a fresh one with the same content.
//!
//! ```text
//! damaged directory ──replace──▶ no container runs on it: trash
//!                          └───▶ one does: retired, until `release_retired` finds nobody on it any more
//! ```
//! Containers that run keep the old directory, as their overlay has it open; those that start later get the new one.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;

use skep_fs::atomic::sync_dir;

use super::{LAYERS, LayerInfo, Layers, RETIRED, StagedLayer};
use crate::chain::ChainId;
use crate::error::StoreError;
use crate::trash::children;

impl Layers {
    /// The directory of a layer's files.
    pub(crate) fn fs_dir(&self, info: &LayerInfo) -> PathBuf {
        self.dir.join(&info.dir).join("fs")
    }

    /// Directories among the layers that are in no record.
    pub(crate) fn strays(&self) -> Result<Vec<PathBuf>, StoreError> {
        let _one_at_a_time = self.changing.lock();
        let mut known: BTreeSet<String> = self.list()?.into_iter().map(|(_, info)| info.dir).collect();
        known.extend(self.db.read(|tx| tx.all(&RETIRED))?.into_iter().map(|(dir, _)| dir));
        let stray =
            |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_none_or(|name| !known.contains(name));
        Ok(children(&self.dir)?.into_iter().filter(stray).collect())
    }

    /// Puts `fresh`, the same layer unpacked again, in the place of a layer's directory. `in_use`: containers that run have
    /// the old one open, so it stays aside for them.
    pub fn replace(&self, chain: &ChainId, fresh: StagedLayer, in_use: bool) -> Result<(), StoreError> {
        self.flush()?;
        let _one_at_a_time = self.changing.lock();
        let old = self.get(chain)?.ok_or(StoreError::NoLayer(*chain))?;
        if fresh.diff_id != old.diff_id {
            return Err(StoreError::DiffIdMismatch { wanted: old.diff_id, got: fresh.diff_id });
        }
        let lower = old.parent.map(|parent| self.lower_dirs(&parent)).transpose()?.unwrap_or_default();
        fresh.take_from_below(&lower)?;
        let flush = |source| StoreError::io("flush", &self.staging, source);
        let staging = File::open(&self.staging).map_err(flush)?;
        rustix::fs::syncfs(&staging).map_err(|error| flush(error.into()))?;
        let path = self.rename_in(&fresh.dir.path)?;
        let stored = sync_dir(&self.dir).map_err(|source| StoreError::io("flush", &self.dir, source)).and_then(|()| {
            let dir = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (opaque, size, tar_size) = (fresh.applied.opaque_root, fresh.size, fresh.tar_size);
            Ok(self.db.write(|tx| {
                tx.put(&LAYERS, chain, &LayerInfo { dir, opaque, size, tar_size, ..old.clone() })?;
                if in_use { tx.put(&RETIRED, &old.dir, chain) } else { Ok(()) }
            })?)
        });
        if let Err(error) = stored {
            // What can't be moved now is found when the store is opened next.
            let _ = self.trash.discard(&path);
            return Err(error);
        }
        if in_use { Ok(()) } else { self.trash.discard(&self.dir.join(&old.dir)) }
    }

    /// Takes away the directories that mended layers had before and that nothing runs on any more. `in_use` tells whether a
    /// container runs on a layer.
    pub fn release_retired(&self, in_use: &dyn Fn(&ChainId) -> bool) -> Result<usize, StoreError> {
        let all = self.db.read(|tx| tx.all(&RETIRED))?;
        let free: Vec<String> = all.into_iter().filter(|(_, chain)| !in_use(chain)).map(|(dir, _)| dir).collect();
        if free.is_empty() {
            return Ok(0);
        }
        let _one_at_a_time = self.changing.lock();
        self.db.write(|tx| free.iter().try_for_each(|dir| tx.remove(&RETIRED, dir).map(drop)))?;
        for dir in &free {
            self.trash.discard(&self.dir.join(dir))?;
        }
        Ok(free.len())
    }
}

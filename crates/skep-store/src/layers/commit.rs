//! Making unpacked layers visible.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags};
use skep_fs::Root;
use skep_fs::apply::{Below, below, copy_metadata};
use skep_fs::atomic::{random_name, sync_dir, write_file};

use super::{LAYERS, LayerInfo, Layers, StagedLayer};
use crate::chain::ChainId;
use crate::crash::crash_point;
use crate::error::StoreError;

/// Letters of a layer directory's name: short, so that a list of many lower directories stays short.
const NAME: usize = 8;

impl Layers {
    /// Makes unpacked layers visible: `layers` is lowest first, the first one on top of `parent`. Their data reaches the
    /// disk before. Layers that are there already are dropped. Returns the chain id of each.
    pub fn commit(&self, parent: Option<&ChainId>, layers: Vec<StagedLayer>) -> Result<Vec<ChainId>, StoreError> {
        let _one_at_a_time = self.changing.lock();
        let mut lower = parent.map(|parent| self.lower_dirs(parent)).transpose()?.unwrap_or_default();
        let (mut chains, mut fresh) = (Vec::new(), Vec::new());
        for layer in layers {
            let before = chains.last().copied().or(parent.copied());
            let chain = ChainId::of(before.as_ref(), &layer.diff_id);
            chains.push(chain);
            if self.get(&chain)?.is_some() {
                lower = self.lower_dirs(&chain)?;
                continue;
            }
            layer.take_from_below(&lower)?;
            if layer.applied.opaque_root {
                lower.clear();
            }
            lower.insert(0, layer.dir.path.join("fs"));
            fresh.push((chain, before, layer));
        }
        if !fresh.is_empty() {
            self.publish(fresh)?;
        }
        Ok(chains)
    }

    fn publish(&self, fresh: Vec<(ChainId, Option<ChainId>, StagedLayer)>) -> Result<(), StoreError> {
        let flush = |path: &Path, source| StoreError::io("flush", path, source);
        let staging = File::open(&self.staging).map_err(|source| flush(&self.staging, source))?;
        crash_point("layers-staged");
        // Layers may stand on pending ones: these get on the disk with them.
        let pending = self.pending.read().clone();
        rustix::fs::syncfs(&staging).map_err(|error| flush(&self.staging, error.into()))?;
        if !pending.is_empty() {
            sync_dir(&self.dir).map_err(|source| flush(&self.dir, source))?;
            self.store_pending(pending)?;
        }
        let mut placed: Vec<PathBuf> = Vec::new();
        let done = self.place(fresh, &mut placed);
        if done.is_err() {
            for path in &placed {
                // What can't be moved now is found when the store is opened next.
                let _ = self.trash.discard(path);
            }
        }
        done
    }

    fn place(
        &self,
        fresh: Vec<(ChainId, Option<ChainId>, StagedLayer)>,
        placed: &mut Vec<PathBuf>,
    ) -> Result<(), StoreError> {
        let mut records = Vec::new();
        for (chain, parent, layer) in fresh {
            let path = self.rename_in(&layer.dir.path)?;
            records.push((chain, layer.info(parent, &path)));
            placed.push(path);
        }
        sync_dir(&self.dir).map_err(|source| StoreError::io("flush", &self.dir, source))?;
        crash_point("layers-renamed");
        self.db.write(|tx| records.iter().try_for_each(|(chain, info)| tx.put(&LAYERS, chain, info)))?;
        Ok(())
    }

    /// Moves a staged directory among the layers, under a new short name.
    pub(super) fn rename_in(&self, staged: &Path) -> Result<PathBuf, StoreError> {
        loop {
            let target = self.dir.join(&random_name()[..NAME]);
            match rustix::fs::renameat_with(CWD, staged, CWD, &target, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(target),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(StoreError::io("rename", staged, error.into())),
            }
        }
    }
}

impl StagedLayer {
    /// What is stored of the layer, now that it is at `path`.
    pub(super) fn info(&self, parent: Option<ChainId>, path: &Path) -> LayerInfo {
        let dir = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let opaque = self.applied.opaque_root;
        let (diff_id, size, tar_size) = (self.diff_id, self.size, self.tar_size);
        LayerInfo { parent, diff_id, size, tar_size, dir, opaque }
    }

    /// Gives the directories that the layer only implies what the layers below have, and stores where replaced files are.
    pub(super) fn take_from_below(&self, lower: &[PathBuf]) -> Result<(), StoreError> {
        let fail = |source: io::Error| StoreError::io("describe directories of", &self.dir.path, source);
        let own = Root::open(&self.dir.path.join("fs")).map_err(fail)?;
        let roots: Vec<Root> = lower.iter().map(|path| Root::open(path)).collect::<Result<_, _>>().map_err(fail)?;
        for path in &self.applied.implied {
            if let Below::Dir(from) = below(&roots, path).map_err(fail)? {
                let to = own.open_at(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0).map_err(fail)?;
                copy_metadata(&Root::from_fd(from), &Root::from_fd(to)).map_err(fail)?;
            }
        }
        if !self.applied.moved.is_empty() {
            use std::os::unix::ffi::OsStrExt;
            let bytes = |path: &PathBuf| path.as_os_str().as_bytes().to_vec();
            let moved: Vec<(u64, Vec<u8>)> = self.applied.moved.iter().map(|(at, path)| (*at, bytes(path))).collect();
            let json = serde_json::to_vec(&moved).map_err(|error| fail(error.into()))?;
            write_file(&self.dir.path.join("moved"), &json, 0o600).map_err(fail)?;
        }
        Ok(())
    }
}

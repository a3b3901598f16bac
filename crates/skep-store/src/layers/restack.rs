//! A layer put on top of other layers than those that it was made on.

use skep_fs::Root;
use skep_fs::apply::{Applied, copy_metadata};

use super::{Layers, StagedLayer};
use crate::chain::ChainId;
use crate::error::StoreError;

impl Layers {
    /// The same layer on top of `parent`, visible and pending. Its files get second names; nothing is copied.
    pub fn restack(&self, chain: &ChainId, parent: Option<&ChainId>) -> Result<ChainId, StoreError> {
        let info = self.get(chain)?.ok_or(StoreError::NoLayer(*chain))?;
        let target = ChainId::of(parent, &info.diff_id);
        if self.get(&target)?.is_some() {
            return Ok(target);
        }
        let staging = self.stage()?;
        let from = self.dir.join(&info.dir);
        let linked = || -> std::io::Result<()> {
            let (source, target) = (Root::open(&from)?, Root::open(&staging.dir.path)?);
            skep_fs::tree::remove(&target, "fs".as_ref())?;
            skep_fs::tree::link(&source, &target)?;
            copy_metadata(&Root::open(&from.join("fs"))?, &Root::open(&staging.dir.path.join("fs"))?)
        };
        linked().map_err(|source| StoreError::io("link", &from, source))?;
        let (diff_id, tar_size, size) = (info.diff_id, info.tar_size, info.size);
        let applied = Applied { bytes: size, opaque_root: info.opaque, ..Applied::default() };
        let layer = StagedLayer {
            digest: diff_id,
            compressed_size: tar_size,
            diff_id,
            tar_size,
            size,
            dir: staging.dir,
            applied,
        };
        self.commit_pending(parent, layer)
    }
}

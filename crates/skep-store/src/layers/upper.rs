//! A layer that is written in place: an upper directory in staging, turned into a layer without copying it.
//!
//! ```text
//! stage_upper ──▶ UpperDir ──(a container, or the engine, writes)──▶ seal ──▶ StagedLayer ──▶ commit
//! ```

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use skep_fs::Root;
use skep_fs::apply::{Applied, copy_metadata};
use skep_fs::seal::seal;
use skep_fs::split::SplitWriter;

use super::{Layers, StagedDir, StagedLayer};
use crate::chain::{ChainId, digest_context, finished};
use crate::error::StoreError;
use crate::make_dir;

/// A directory that becomes a layer. Dropped, it is gone.
#[derive(Debug)]
pub struct UpperDir {
    dir: StagedDir,
    lower: Vec<PathBuf>,
}

impl Layers {
    /// An empty upper directory over the stack `parent`; its top has the metadata of the stack's. The lease that holds `parent` is
    /// the caller's.
    pub fn stage_upper(&self, parent: Option<&ChainId>) -> Result<UpperDir, StoreError> {
        let lower = parent.map(|parent| self.lower_dirs(parent)).transpose()?.unwrap_or_default();
        let staging = self.stage()?;
        let upper = UpperDir { dir: staging.dir, lower };
        make_dir(&upper.work(), 0o700)?;
        if let Some(below) = upper.lower.first() {
            let copied = Root::open(below).and_then(|from| copy_metadata(&from, &Root::open(&upper.path())?));
            copied.map_err(|source| StoreError::io("set owner and mode of", &upper.path(), source))?;
        }
        Ok(upper)
    }
}

impl UpperDir {
    /// Where changes go.
    pub fn path(&self) -> PathBuf {
        self.dir.path.join("fs")
    }

    /// Scratch space of an overlay, on the same file system.
    pub fn work(&self) -> PathBuf {
        self.dir.path.join("work")
    }

    /// The directories below, topmost first.
    pub fn lower(&self) -> &[PathBuf] {
        &self.lower
    }

    /// Takes the directory as a layer, an empty one when nothing was changed. Nobody writes to it any more.
    pub fn seal(self) -> Result<StagedLayer, StoreError> {
        let fail = |source: io::Error| StoreError::io("record the layer", &self.dir.path, source);
        let open = |path: &Path| Root::open(path);
        let upper = open(&self.path()).map_err(fail)?;
        let lower = self.lower.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>().map_err(fail)?;
        let split = File::create_new(self.dir.path.join("split")).and_then(SplitWriter::new).map_err(fail)?;
        let mut context = digest_context();
        let sealed = seal(&upper, &lower, split, &mut |bytes| context.update(bytes)).map_err(fail)?;
        let staged = open(&self.dir.path).and_then(|dir| skep_fs::tree::remove(&dir, "work".as_ref()));
        staged.map_err(fail)?;
        let diff_id = finished(context);
        Ok(StagedLayer {
            digest: diff_id,
            compressed_size: sealed.tar_size,
            diff_id,
            tar_size: sealed.tar_size,
            size: sealed.bytes,
            dir: self.dir,
            applied: Applied { bytes: sealed.bytes, entries: sealed.entries, ..Applied::default() },
        })
    }
}

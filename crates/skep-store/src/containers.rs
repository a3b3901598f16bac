//! Containers' directories: `D/containers/<id>`, with the read-write layer in `rw/{upper,work}`.

use std::fs;
use std::path::PathBuf;

use skep_fs::Root;
use skep_fs::tree::{Usage, usage};
use skep_types::ContainerId;

use crate::chain::ChainId;
use crate::error::StoreError;
use crate::layers::Layers;
use crate::make_dir;
use crate::trash::{Trash, children};

/// The containers' directories of a data root.
#[derive(Debug, Clone)]
pub struct Containers {
    dir: PathBuf,
    layers: Layers,
    trash: Trash,
}

impl Containers {
    pub(crate) fn new(dir: PathBuf, layers: Layers, trash: Trash) -> Self {
        Containers { dir, layers, trash }
    }

    /// Makes a container's directory (0710) and its empty read-write layer over the stack `top`; the root directory of
    /// the container takes mode, owner and attributes from the image's.
    pub fn create(&self, id: &ContainerId, top: Option<&ChainId>) -> Result<PathBuf, StoreError> {
        let dir = self.dir(id);
        make_dir(&dir, 0o710)?;
        make_dir(&dir.join("rw"), 0o710)?;
        make_dir(&self.work(id), 0o700)?;
        let upper = self.upper(id);
        make_dir(&upper, 0o755)?;
        if let Some(below) =
            top.map(|top| self.layers.lower_dirs(top)).transpose()?.and_then(|dirs| dirs.into_iter().next())
        {
            let open = |path: &PathBuf| Root::open(path).map_err(|source| StoreError::io("open", path, source));
            skep_fs::apply::copy_metadata(&open(&below)?, &open(&upper)?)
                .map_err(|source| StoreError::io("set owner and mode of", &upper, source))?;
        }
        Ok(dir)
    }

    /// `D/containers/<id>`.
    pub fn dir(&self, id: &ContainerId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// The overlay's upper directory: all that the container changed.
    pub fn upper(&self, id: &ContainerId) -> PathBuf {
        self.dir(id).join("rw/upper")
    }

    /// The overlay's work directory.
    pub fn work(&self, id: &ContainerId) -> PathBuf {
        self.dir(id).join("rw/work")
    }

    /// What the read-write layer takes.
    pub fn usage(&self, id: &ContainerId) -> Result<Usage, StoreError> {
        let upper = self.upper(id);
        Root::open(&upper).and_then(|root| usage(&root)).map_err(|source| StoreError::io("measure", &upper, source))
    }

    /// Takes a container's directory away; the files go with the next [`crate::Store::empty_trash`]. One that isn't
    /// there is no error.
    pub fn remove(&self, id: &ContainerId) -> Result<(), StoreError> {
        self.trash.discard(&self.dir(id))
    }

    /// The ids of all containers that have a directory, in no order.
    pub fn list(&self) -> Result<Vec<ContainerId>, StoreError> {
        let paths = children(&self.dir)?;
        let is_dir = |path: &&PathBuf| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
        Ok(paths.iter().filter(is_dir).filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect())
    }
}

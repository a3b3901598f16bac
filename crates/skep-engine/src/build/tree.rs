//! The files of a step's input.

use std::path::{Path, PathBuf};

use skep_build::BuildError;
use skep_build::worker::{Stack, Tree};
use skep_fs::Root;
use skep_store::Layers;

use super::error::{failed, store};

/// The directories of a stack, topmost first; none for an empty tree.
pub(super) fn directories(layers: &Layers, stack: Stack) -> Result<Vec<PathBuf>, BuildError> {
    stack.map_or(Ok(Vec::new()), |top| layers.lower_dirs(&top).map_err(store))
}

/// A tree's root, for reading. `empty` is an empty directory of the engine.
pub(super) fn open(layers: &Layers, tree: &Tree, empty: &Path) -> Result<Root, BuildError> {
    match tree {
        Tree::Layers(stack) => merged(&directories(layers, *stack)?, empty),
        Tree::Dir(dir) => Root::open(&dir.path).map_err(failed("open a directory of the build")),
    }
}

/// What layers look like together, without a mount that others could see. An empty directory below them makes the kernel heed
/// the marks of a single layer too.
pub(super) fn merged(directories: &[PathBuf], empty: &Path) -> Result<Root, BuildError> {
    if directories.is_empty() {
        return Root::open(empty).map_err(failed("open an empty directory"));
    }
    let lower: Vec<&Path> = directories.iter().map(PathBuf::as_path).chain([empty]).collect();
    let overlay = skep_sys::overlay::Overlay { lower: &lower, upper: None, options: &[], flags: &[] };
    skep_sys::overlay::mount(&overlay).map(Root::from_fd).map_err(failed("mount the layers of a step's input"))
}

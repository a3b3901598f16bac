//! Where files go that nobody needs any more: out of sight at once by a rename, deleted later in the background. A
//! crash in between leaves them in the trash, and the next start goes on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustix::fs::{CWD, RenameFlags};
use skep_fs::Root;
use skep_fs::atomic::random_name;
use skep_fs::tree::usage;

use crate::crash::crash_point;
use crate::error::StoreError;

/// The trash of one data root.
#[derive(Debug, Clone)]
pub struct Trash {
    dir: PathBuf,
    /// Held while emptying, so that two background calls don't trip over each other.
    emptying: Arc<Mutex<()>>,
    bell: Arc<Bell>,
}

/// Rung when there is something to delete.
#[derive(Default)]
struct Bell(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bell")
    }
}

impl Trash {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Trash { dir, emptying: Arc::default(), bell: Arc::default() }
    }

    /// Names who is told whenever something was thrown away; the first caller stays. It must not block.
    pub fn on_discard(&self, ring: impl Fn() + Send + Sync + 'static) {
        // A second one would be a mistake of the only caller; the first goes on being told.
        let _ = self.bell.0.set(Box::new(ring));
    }

    /// Moves a file or a whole tree of the data root to the trash. What isn't there is no error. It takes one rename,
    /// whatever the tree's size; [`Trash::empty`] frees the room.
    pub fn discard(&self, path: &Path) -> Result<(), StoreError> {
        let target = self.dir.join(random_name());
        match rustix::fs::renameat_with(CWD, path, CWD, &target, RenameFlags::NOREPLACE) {
            Ok(()) => {
                crash_point("discarded");
                if let Some(ring) = self.bell.0.get() {
                    ring();
                }
                Ok(())
            }
            Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(StoreError::io("discard", path, error.into())),
        }
    }

    /// Moves everything in a directory to the trash.
    pub(crate) fn discard_children(&self, dir: &Path) -> Result<(), StoreError> {
        for path in children(dir)? {
            self.discard(&path)?;
        }
        Ok(())
    }

    /// Bytes on disk that emptying gives back.
    pub fn disk_usage(&self) -> Result<u64, StoreError> {
        let measure = || Ok(usage(&Root::open(&self.dir)?)?.disk);
        measure().map_err(|source| StoreError::io("measure", &self.dir, source))
    }

    /// Deletes everything in the trash; returns how many things those were. Goes on after a failure and reports the
    /// first; what could not be deleted stays for the next call.
    pub fn empty(&self) -> Result<usize, StoreError> {
        let _one_at_a_time = self.emptying.lock();
        let root = Root::open(&self.dir).map_err(|source| StoreError::io("open", &self.dir, source))?;
        let (mut removed, mut first) = (0, None);
        for path in children(&self.dir)? {
            let Some(name) = path.file_name() else { continue };
            crash_point("trash");
            match skep_fs::tree::remove(&root, name) {
                Ok(()) => removed += 1,
                Err(source) => first = first.or(Some(StoreError::io("delete", &path, source))),
            }
        }
        first.map_or(Ok(removed), Err)
    }
}

/// The paths in a directory.
pub(crate) fn children(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    std::fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(|source| StoreError::io("list", dir, source))
}

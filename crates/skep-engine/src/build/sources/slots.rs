//! Directories that are kept between builds, each used by one build at a time.
//!
//! ```text
//! D/build/KIND/NAME-0     what the last build left; NAME is a digest of what it is for
//! D/build/KIND/NAME-1     for a second build of the same at the same time
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use skep_build::BuildError;

use super::super::error::failed;

/// Which directories are in use. Clones share it.
#[derive(Clone, Default)]
pub(in crate::build) struct Slots(Arc<Mutex<BTreeSet<PathBuf>>>);

/// A directory in use.
pub(in crate::build) struct Slot {
    pub(in crate::build) path: PathBuf,
    slots: Slots,
}

impl Slots {
    /// Takes the first directory below `top` with that name that nobody uses, and makes it if there is none.
    pub(in crate::build) fn take(&self, top: &Path, name: &str) -> Result<Slot, BuildError> {
        let mut number = 0;
        let path = loop {
            let path = top.join(format!("{name}-{number}"));
            if self.0.lock().insert(path.clone()) {
                break path;
            }
            number += 1;
        };
        let slot = Slot { path, slots: self.clone() };
        crate::storage::make_dir(top, 0o700).map_err(super::super::error::engine)?;
        crate::storage::make_dir(&slot.path, 0o755).map_err(super::super::error::engine)?;
        // Its time tells when it was last of use.
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
        rustix::fs::utimensat(rustix::fs::CWD, &slot.path, &times, rustix::fs::AtFlags::empty())
            .map_err(|error| failed("note the use of a directory")(error.into()))?;
        Ok(slot)
    }

    /// Takes a directory that nobody uses, to remove it.
    pub(in crate::build) fn leave(&self, path: &Path) -> Option<Slot> {
        let free = self.0.lock().insert(path.to_owned());
        free.then(|| Slot { path: path.to_owned(), slots: self.clone() })
    }

    /// Whether a directory is in use.
    pub(in crate::build) fn has(&self, path: &Path) -> bool {
        self.0.lock().contains(path)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.0.lock().remove(&self.path);
    }
}

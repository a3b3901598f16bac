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

    /// Removes `top` if there is nothing in it, and nobody about to put something there.
    pub(in crate::build) fn remove_empty(&self, top: &Path) -> std::io::Result<()> {
        let used = self.0.lock();
        if used.is_empty() { remove_if_empty(top) } else { Ok(()) }
    }
}

/// Makes an empty directory where there may be one with files.
pub(super) fn make_room(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir(directory),
    }
}

/// Removes a directory, unless there is something in it.
pub(in crate::build) fn remove_if_empty(dir: &Path) -> std::io::Result<()> {
    use std::io::ErrorKind::{DirectoryNotEmpty, NotFound};
    match std::fs::remove_dir(dir) {
        Err(error) if !matches!(error.kind(), DirectoryNotEmpty | NotFound) => Err(error),
        _ => Ok(()),
    }
}

impl Slot {
    /// Its directory goes when it is no longer in use.
    pub(in crate::build) fn once(self) -> Once {
        Once(Some(self))
    }
}

/// A directory in use that nobody wants to have again.
pub(in crate::build) struct Once(Option<Slot>);

impl Drop for Once {
    fn drop(&mut self) {
        let Some(slot) = self.0.take() else { return };
        let remove = move || {
            if let Err(error) = std::fs::remove_dir_all(&slot.path) {
                tracing::warn!(path = %slot.path.display(), %error, "removing what a client sent");
            }
        };
        match tokio::runtime::Handle::try_current() {
            // There may be very many files.
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.0.lock().remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_is_not_given_twice_and_its_place_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let (top, slots) = (dir.path().join("build/context"), Slots::default());
        let one = slots.take(&top, "n").expect("a slot");
        let two = slots.take(&top, "n").expect("a slot");
        assert_eq!((one.path.clone(), two.path.clone()), (top.join("n-0"), top.join("n-1")));
        for path in [&one.path, &two.path] {
            std::fs::remove_dir(path).expect("remove a slot's directory");
        }
        drop(one);
        slots.remove_empty(&top).expect("look at the place");
        assert!(top.exists(), "a slot is in use");
        drop(two);
        slots.remove_empty(&top).expect("remove the place");
        assert!(!top.exists());
        let again = slots.take(&top, "n").expect("a slot");
        drop(again);
        slots.remove_empty(&top).expect("look at the place");
        assert!(top.join("n-0").exists(), "what was left there stays");
    }
}

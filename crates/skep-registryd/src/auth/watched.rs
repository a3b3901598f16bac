//! Files that are read again when they change.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = path.display())]
pub struct FileError {
    path: PathBuf,
    reason: String,
}

impl FileError {
    pub(crate) fn new(path: &Path, reason: impl ToString) -> Self {
        FileError { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// What tells one state of a file from the next.
type Stamp = (u64, i64, i64, u64);

/// What a file holds. When it holds nonsense later on, what it held before stays.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    path: PathBuf,
    parse: fn(&[u8]) -> Result<T, String>,
    state: Mutex<(Option<Stamp>, Arc<T>)>,
}

impl<T> Watched<T> {
    pub(crate) fn open(path: &Path, parse: fn(&[u8]) -> Result<T, String>) -> Result<Self, FileError> {
        let stamp = stamp(path);
        let value = read(path, parse).map_err(|reason| FileError::new(path, reason))?;
        Ok(Watched { path: path.to_owned(), parse, state: Mutex::new((stamp, Arc::new(value))) })
    }

    /// What it holds now.
    pub(crate) fn get(&self) -> Arc<T> {
        let stamp = stamp(&self.path);
        let mut state = self.state.lock();
        if stamp != state.0 {
            state.0 = stamp;
            match read(&self.path, self.parse) {
                Ok(value) => {
                    state.1 = Arc::new(value);
                    tracing::info!(path = %self.path.display(), "read again");
                }
                Err(reason) => {
                    tracing::error!(path = %self.path.display(), reason, "unusable, what was in it before counts")
                }
            }
        }
        state.1.clone()
    }

    /// Reads it whether it looks changed or not, and says if it can't be used.
    pub(crate) fn read_again(&self) -> Result<(), FileError> {
        let stamp = stamp(&self.path);
        let value = read(&self.path, self.parse).map_err(|reason| FileError::new(&self.path, reason))?;
        *self.state.lock() = (stamp, Arc::new(value));
        Ok(())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()))
}

fn read<T>(path: &Path, parse: fn(&[u8]) -> Result<T, String>) -> Result<T, String> {
    parse(&std::fs::read(path).map_err(|error| error.to_string())?)
}

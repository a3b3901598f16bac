//! What a container changed.
use std::io;
use std::path::PathBuf;

use crate::rooted::Root;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// `C`, 0 in the API.
    Modified,
    /// `A`, 1 in the API.
    Added,
    /// `D`, 2 in the API.
    Deleted,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute path inside the container.
    pub path: PathBuf,
    /// What happened.
    pub kind: ChangeKind,
}

/// The changes that `upper` makes to the stack `lower` (topmost first), in the order in which Docker lists them.
pub fn changes(upper: &Root, lower: &[Root]) -> io::Result<Vec<Change>> {
    let _ = (upper, lower);
    Err(io::ErrorKind::Unsupported.into())
}

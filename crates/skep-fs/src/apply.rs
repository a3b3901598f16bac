//! An archive put into a directory.
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::rooted::Root;

/// What an archive may cost before it is refused.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of all file contents together.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { entries: 10_000_000, bytes: 1 << 40 }
    }
}

/// How a plain archive is put into a tree ([`extract`]).
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtractOptions {
    /// Refuse to replace a directory by something else, or something else by a directory (`noOverwriteDirNonDir`).
    pub keep_directories: bool,
    /// Give everything this owner and group rather than those that the archive says.
    pub owner: Option<(u32, u32)>,
    /// What it may cost.
    pub limits: Limits,
}

/// Why an archive could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Reading the archive or writing a file failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with the entry's name.
        what: String,
        /// The failure.
        source: io::Error,
    },
}

/// Puts a plain archive (already decompressed) below `dir` of `root`, as `docker cp` into a container does.
pub fn extract(archive: impl Read, root: &Root, dir: &Path, options: &ExtractOptions) -> Result<(), ApplyError> {
    let _ = (archive, root, options);
    Err(ApplyError::Io { what: dir.display().to_string(), source: io::ErrorKind::Unsupported.into() })
}

/// What applying a layer found out.
#[derive(Debug, Default)]
pub struct Applied {
    /// Bytes of file contents.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Directories that no entry describes, parents before children.
    pub implied: Vec<PathBuf>,
    /// Whether the layer hides everything below it.
    pub opaque_root: bool,
}

impl ApplyError {
    /// What sort of failure it is.
    pub fn kind(&self) -> skep_types::ErrorKind {
        skep_types::ErrorKind::System
    }
}

/// Gives the directory `to` the mode, owner, attributes and times of `from`.
pub fn copy_metadata(from: &Root, to: &Root) -> io::Result<()> {
    let _ = (from, to);
    Ok(())
}

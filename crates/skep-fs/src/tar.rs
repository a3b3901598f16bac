//! The tar format: ustar, GNU and PAX headers read, PAX headers written.
//!
//! Source: POSIX.1-2024 "pax", the GNU tar manual ("Basic Tar Format", "Sparse Formats"), and Go's archive/tar for what
//! Docker's own archives hold (`SCHILY.xattr.` records).

mod read;
mod write;

pub use read::{Reader, TarError};
pub use write::Writer;

/// Bytes of a header, and what contents are padded to.
pub(crate) const BLOCK: usize = 512;

/// The prefix of PAX records that hold extended attributes.
pub(crate) const XATTR_RECORD: &[u8] = b"SCHILY.xattr.";

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of a file of the archive; [`Entry::link`] is the first.
    HardLink,
    /// A symbolic link to [`Entry::link`].
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A directory.
    Dir,
    /// A FIFO.
    Fifo,
}

/// One entry of an archive, extension headers applied.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name as the archive has it: nothing about it can be trusted.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Bytes of data in the archive.
    pub stored: u64,
    /// Size of the file; larger than `stored` when it has holes.
    pub size: u64,
    /// Where the data goes: offset and length of each piece, when the file has holes.
    pub pieces: Option<Vec<(u64, u64)>>,
    /// Permission bits, with set-user-id, set-group-id and sticky bit.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

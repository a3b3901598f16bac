//! A tree of files sent from one side to the other: the protocol of BuildKit's fsutil.
//!
//! ```text
//! sender                          receiver
//!   STAT path, mode, size … ───▶   compares with what it has            (in the order of a walk, each numbered from 0)
//!   STAT (nothing)          ───▶   removes what was not named
//!                           ◀───  REQ number                           (only of files whose content is needed)
//!   DATA number, bytes …    ───▶
//!   DATA number, nothing    ───▶   the file is whole
//!                           ◀───  FIN
//!   FIN                     ───▶
//!   ERR text                ───▶   at any time
//! ```
//!
//! Both halves are synchronous: they run on a blocking thread between two channels, which `session` and `provider` connect to a
//! call.

mod mode;
mod order;
mod receive;
mod send;

pub use mode::to_wire as go_mode;
pub use receive::{Limits, ReceiveOptions, Received, receive};
pub use send::{All, Choose, Patterns, Source, Want, send};

use std::io;

/// Packets of one call.
pub use crate::proto::fsutil::types::{Packet, Stat, packet::PacketType};

/// Headers of a call.
pub mod header {
    /// Which of the client's directories.
    pub const DIR_NAME: &str = "dir-name";
    /// Patterns of what is wanted.
    pub const INCLUDE: &str = "include-patterns";
    /// Patterns of what is not.
    pub const EXCLUDE: &str = "exclude-patterns";
    /// Paths whose links are followed.
    pub const FOLLOW: &str = "followpaths";
    /// What a file is that comes back: attributes of its export.
    pub const EXPORTER_METADATA: &str = "exporter-md-";
    /// Which export something belongs to, counted from 0.
    pub const EXPORTER: &str = "buildkit-attachable-exporter-id";
}

/// Why a tree didn't get through.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The other side said so.
    #[error("error from sender: {0}")]
    Sender(String),
    /// The other side said so.
    #[error("error from receiver: {0}")]
    Receiver(String),
    /// The other side breaks the rules.
    #[error("{0}")]
    Protocol(String),
    /// More than is taken.
    #[error("{0}")]
    TooMuch(String),
    /// A file of this side.
    #[error("{doing} {path}: {source}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// With which file, below the root.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The call broke off.
    #[error("{0}")]
    Call(tonic::Status),
    /// The other side went away in the middle.
    #[error("the transfer was cut short")]
    CutShort,
}

impl SyncError {
    pub(crate) fn file(doing: &'static str, path: &str) -> impl FnOnce(rustix::io::Errno) -> SyncError {
        let path = path.to_owned();
        move |errno| SyncError::File { doing, path, source: errno.into() }
    }

    pub(crate) fn protocol(text: impl Into<String>) -> SyncError {
        SyncError::Protocol(text.into())
    }
}

pub(crate) fn packet(kind: PacketType) -> Packet {
    Packet { r#type: kind.into(), ..Packet::default() }
}

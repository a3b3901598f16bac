//! What can go wrong with stored content.

use std::io;
use std::path::{Path, PathBuf};

use skep_fs::apply::ApplyError;
use skep_types::{Digest, ErrorKind};

use crate::chain::ChainId;
use crate::db::DbError;

/// Why an operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Content isn't what its digest says.
    #[error("failed to verify content: wanted {wanted}, got {got}")]
    DigestMismatch {
        /// What was asked for.
        wanted: Digest,
        /// What the bytes have.
        got: Digest,
    },
    /// Content isn't as long as announced.
    #[error("unexpected size: wanted {wanted} bytes, got {got}")]
    SizeMismatch {
        /// What was announced.
        wanted: u64,
        /// What came.
        got: u64,
    },
    /// The unpacked archive isn't the one that the image's configuration names.
    #[error("layer's diff id is {got}, the image wants {wanted}")]
    DiffIdMismatch {
        /// What the image's configuration says.
        wanted: Digest,
        /// What the archive has.
        got: Digest,
    },
    /// No such blob.
    #[error("blob {0} not found")]
    NoBlob(Digest),
    /// No such layer.
    #[error("layer {0} not found")]
    NoLayer(ChainId),
    /// A layer that others stand on.
    #[error("layer {0} is in use by layer {1}")]
    LayerInUse(ChainId, ChainId),
    /// The layer's archive can't be read or applied.
    #[error("failed to register layer: {0}")]
    Apply(#[from] ApplyError),
    /// The stream could not be read or decompressed.
    #[error("reading the layer: {0}")]
    Stream(io::Error),
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        StoreError::Io { action, path: path.to_owned(), source }
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StoreError::Io { source, .. } | StoreError::Stream(source) => io_kind(source),
            StoreError::Db(error) => error.kind(),
            StoreError::DigestMismatch { .. } | StoreError::SizeMismatch { .. } | StoreError::DiffIdMismatch { .. } => {
                ErrorKind::InvalidParameter
            }
            StoreError::NoBlob(_) | StoreError::NoLayer(_) => ErrorKind::NotFound,
            StoreError::LayerInUse(..) => ErrorKind::Conflict,
            StoreError::Apply(error) => error.kind(),
        }
    }
}

/// The class of a failed system call.
pub(crate) fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => ErrorKind::Exhausted,
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ErrorKind::InvalidParameter,
        io::ErrorKind::Unsupported => ErrorKind::NotImplemented,
        _ => ErrorKind::System,
    }
}

//! Errors of image operations, in Docker's words.

use skep_types::{Digest, ErrorKind, Platform};

/// Why an operation on images failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image of that name, id or id prefix.
    #[error("No such image: {0}")]
    NotFound(String),
    /// Several images start with that id prefix.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// A text that is not a reference.
    #[error("{0}")]
    Reference(#[from] skep_types::ReferenceError),
    /// The state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The image is here, but for another platform than was asked for.
    #[error("image with reference {name} was found but does not provide the specified platform ({platform})")]
    OtherPlatform {
        /// The name as the user wrote it.
        name: String,
        /// What was asked for.
        platform: Platform,
    },
    /// The request, an archive or a manifest is wrong.
    #[error("{0}")]
    Invalid(String),
    /// A blob that should be here is gone or damaged.
    #[error("image {id}: {what}")]
    Damaged {
        /// The image.
        id: Digest,
        /// What is wrong.
        what: String,
    },
    /// Not there.
    #[error("{0}")]
    NotImplemented(String),
}

impl ImageError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ImageError::NotFound(_) | ImageError::OtherPlatform { .. } => ErrorKind::NotFound,
            ImageError::Ambiguous(_) | ImageError::Reference(_) | ImageError::Invalid(_) => ErrorKind::InvalidParameter,
            ImageError::Conflict(_) => ErrorKind::Conflict,
            ImageError::Damaged { .. } => ErrorKind::DataLoss,
            ImageError::NotImplemented(_) => ErrorKind::NotImplemented,
        }
    }
}

//! Errors of image operations, in Docker's words.

use skep_store::DbError;
use skep_types::{ErrorKind, Platform, Reference};

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
    /// It is here, but nothing that can be run.
    #[error("{name} is an artifact ({kind}), not a container image")]
    Artifact {
        /// The name as the user wrote it, or its id.
        name: String,
        /// What it is.
        kind: String,
    },
    /// An index has no image for the platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoSuchPlatform(Platform),
    /// What is to be pushed isn't here.
    #[error("{0}")]
    Push(String),
    /// A file or a stream failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The registry failed.
    #[error("{0}")]
    Registry(#[from] skep_registry::RegistryError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] skep_store::StoreError),
    /// The signature policy does not let the image in.
    #[error("{0}")]
    Rejected(#[from] skep_policy::Rejection),
    /// The caller went away.
    #[error("context canceled")]
    Cancelled,
    /// The request, an archive or a manifest is wrong.
    #[error("{0}")]
    Invalid(String),
}

impl ImageError {
    /// What a name leads to is not there for that platform.
    pub(super) fn other_platform(name: &str, wished: &Platform) -> Self {
        let name = name.parse::<Reference>().map_or_else(|_| name.to_owned(), |r| r.or_latest().familiar());
        ImageError::OtherPlatform { name, platform: wished.clone() }
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ImageError::NotFound(_)
            | ImageError::Push(_)
            | ImageError::OtherPlatform { .. }
            | ImageError::NoSuchPlatform(_) => ErrorKind::NotFound,
            ImageError::Registry(e) => e.kind(),
            ImageError::Io(e) => match e.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
                std::io::ErrorKind::Unsupported | std::io::ErrorKind::InvalidData => ErrorKind::InvalidParameter,
                _ => ErrorKind::System,
            },
            ImageError::Ambiguous(_)
            | ImageError::Reference(_)
            | ImageError::Artifact { .. }
            | ImageError::Invalid(_) => ErrorKind::InvalidParameter,
            ImageError::Conflict(_) => ErrorKind::Conflict,
            ImageError::Rejected(_) => ErrorKind::Forbidden,
            ImageError::Store(e) => e.kind(),
            ImageError::Cancelled => ErrorKind::Cancelled,
        }
    }
}

impl From<DbError> for ImageError {
    fn from(error: DbError) -> Self {
        ImageError::Store(error.into())
    }
}

//! What a registry refuses, and what fails in it.

use serde_json::Value;
use skep_store::DbError;

use crate::storage::StorageError;

/// The error codes of the distribution specification ("Error Codes"), and those that every registry has beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The repository has no such blob.
    BlobUnknown,
    /// An upload can't go on like that.
    BlobUploadInvalid,
    /// There is no such upload.
    BlobUploadUnknown,
    /// The digest is none, or not that of the content.
    DigestInvalid,
    /// A manifest names what the repository lacks.
    ManifestBlobUnknown,
    /// The manifest is wrong in itself.
    ManifestInvalid,
    /// The repository has no such manifest.
    ManifestUnknown,
    /// A repository can't be named like that.
    NameInvalid,
    /// There is no such repository.
    NameUnknown,
    /// A length is not that of the content, or larger than what is taken.
    SizeInvalid,
    /// A tag can't be named like that.
    TagInvalid,
    /// A page of that size is not given.
    PaginationNumberInvalid,
    /// The chunk does not follow the last one.
    RangeInvalid,
    /// Who asks has to say who it is.
    Unauthorized,
    /// Who asks may not do that.
    Denied,
    /// The registry does not do that.
    Unsupported,
    /// Not now.
    TooManyRequests,
    /// Something behind the registry (its storage, an upstream) does not answer.
    Unavailable,
    /// The registry is at fault.
    Unknown,
}

/// A request that is not fulfilled because of itself.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Of which sort.
    pub code: Code,
    /// For people.
    pub message: String,
    /// What it is about, for programs.
    pub detail: Value,
}

impl Refusal {
    /// Without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into(), detail: Value::Null }
    }

    /// The same with details.
    #[must_use]
    pub fn with(self, detail: Value) -> Self {
        Refusal { detail, ..self }
    }
}

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request's own fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The metadata could not be read or written.
    #[error("metadata: {0}")]
    Metadata(#[from] DbError),
    /// The content could not be read or written.
    #[error("content: {0}")]
    Storage(#[from] StorageError),
    /// An upload's file could not be read or written.
    #[error("upload: {0}")]
    Upload(#[source] std::io::Error),
    /// The client's body broke off.
    #[error("the client's body broke off: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Work on a blocking thread did not come to its end.
    #[error("the work broke off: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// What the registry's calls return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A refusal, as an error.
pub(crate) fn refuse<T>(code: Code, message: impl Into<String>) -> Result<T> {
    Err(Refusal::new(code, message).into())
}

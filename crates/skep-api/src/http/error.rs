//! Errors as clients see them: a status and `{"message": …}`. The one table from [`ErrorKind`] to status is here.

use http::StatusCode;
use skep_types::ErrorKind;

/// Why a request failed: its class, and a text in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    kind: ErrorKind,
    message: String,
}

impl ApiError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        ApiError { kind, message: message.into() }
    }

    /// 400.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParameter, message)
    }

    /// 501. `what` names the thing: `POST /build`, `HostConfig.Links`.
    pub(crate) fn unsupported(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::NotImplemented, format!("{what} is not supported by skep"))
    }

    pub(crate) fn status(&self) -> StatusCode {
        status(self.kind)
    }
}

/// The status of each class.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::InvalidParameter => StatusCode::BAD_REQUEST,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::DataLoss | ErrorKind::Cancelled | ErrorKind::Exhausted | ErrorKind::System => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

impl From<skep_engine::Error> for ApiError {
    fn from(error: skep_engine::Error) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<skep_engine::images::ImageError> for ApiError {
    fn from(error: skep_engine::images::ImageError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<skep_types::ReferenceError> for ApiError {
    fn from(error: skep_types::ReferenceError) -> Self {
        Self::invalid(error.to_string())
    }
}

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

/// What the kernel says in the words that scripts look for: `no space left on device` instead of Rust's `No space left on device (os
/// error 28)`.
fn kernel_words(mut text: String) -> String {
    while let Some(end) = text.find(" (os error ") {
        let start = text[..end].rfind(": ").map_or(0, |colon| colon + 2);
        let after = text[end..].find(')').map_or(text.len(), |length| end + length + 1);
        let words: String =
            text[start..end].char_indices().map(|(at, c)| if at == 0 { c.to_ascii_lowercase() } else { c }).collect();
        text.replace_range(start..after, &words);
    }
    text
}

impl From<skep_engine::Error> for ApiError {
    fn from(error: skep_engine::Error) -> Self {
        Self::new(error.kind(), kernel_words(error.to_string()))
    }
}

impl From<skep_engine::images::ImageError> for ApiError {
    fn from(error: skep_engine::images::ImageError) -> Self {
        Self::new(error.kind(), kernel_words(error.to_string()))
    }
}

impl From<skep_types::ReferenceError> for ApiError {
    fn from(error: skep_types::ReferenceError) -> Self {
        Self::invalid(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_speaks_as_in_go() {
        for (text, want) in [
            ("write big: No space left on device (os error 28)", "write big: no space left on device"),
            ("Permission denied (os error 13)", "permission denied"),
            (
                "a: No such file or directory (os error 2), b: Is a directory (os error 21)",
                "a: no such file or directory, b: is a directory",
            ),
            ("No such image: x", "No such image: x"),
        ] {
            assert_eq!(kernel_words(text.to_owned()), want);
        }
    }
}

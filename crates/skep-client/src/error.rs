//! What can go wrong between the client and the engine, in Docker's words.

use std::io;

use http::StatusCode;
use skep_types::ErrorKind;

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request failed. The texts are those that scripts match on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens at the endpoint.
    #[error("Cannot connect to the Docker daemon at {endpoint}. Is the docker daemon running?")]
    NotRunning {
        /// The endpoint as the user would write it.
        endpoint: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket exists, but not for us.
    #[error("permission denied while trying to connect to the Docker daemon socket at {endpoint}: connect: {source}")]
    PermissionDenied {
        /// The endpoint as the user would write it.
        endpoint: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection could not be made for another reason (no such host, TLS, ssh).
    #[error("error during connect: {endpoint}: {message}")]
    Connect {
        /// The endpoint as the user would write it.
        endpoint: String,
        /// The reason.
        message: String,
    },
    /// The engine answered with an error.
    #[error("Error response from daemon: {message}")]
    Api {
        /// The HTTP status.
        status: StatusCode,
        /// The engine's message.
        message: String,
    },
    /// The connection broke in the middle of a request or an answer.
    #[error("error during connect: {0}")]
    Transport(#[from] hyper::Error),
    /// Reading or writing a stream failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The engine's answer is not what the API says.
    #[error("Error reading remote info: {0}")]
    Decode(#[from] skep_wire::DecodeError),
    /// A stream of messages holds something that is no JSON.
    #[error("invalid message in stream: {0}")]
    Stream(serde_json::Error),
    /// A request body that cannot be written as JSON.
    #[error("cannot encode request: {0}")]
    Encode(serde_json::Error),
    /// A text that is no API version.
    #[error("invalid API version {0:?}")]
    Version(String),
    /// A request that cannot be written down (a header or path with control characters).
    #[error("invalid request: {0}")]
    Request(#[from] http::Error),
    /// The engine answered a hijacking request without giving up the connection.
    #[error("unable to upgrade to {protocol}, received {status}")]
    NotUpgraded {
        /// The protocol that was asked for.
        protocol: &'static str,
        /// What the server sent instead.
        status: StatusCode,
    },
    /// A multiplexed stream with a header that is none.
    #[error("Unrecognized input header: {0}")]
    StreamHeader(u8),
    /// Certificates that cannot be read or used.
    #[error("{0}")]
    Tls(String),
}

impl Error {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Api { status, .. } => match status.as_u16() {
                304 => ErrorKind::NotModified,
                400 => ErrorKind::InvalidParameter,
                401 => ErrorKind::Unauthorized,
                403 => ErrorKind::Forbidden,
                404 => ErrorKind::NotFound,
                409 => ErrorKind::Conflict,
                501 => ErrorKind::NotImplemented,
                503 => ErrorKind::Unavailable,
                507 => ErrorKind::Exhausted,
                _ => ErrorKind::System,
            },
            Error::NotRunning { .. } | Error::PermissionDenied { .. } | Error::Connect { .. } => ErrorKind::Unavailable,
            Error::Request(_) | Error::Tls(_) | Error::Version(_) | Error::Encode(_) => ErrorKind::InvalidParameter,
            Error::Transport(_)
            | Error::Io(_)
            | Error::Decode(_)
            | Error::Stream(_)
            | Error::NotUpgraded { .. }
            | Error::StreamHeader(_) => ErrorKind::System,
        }
    }

    /// Whether the engine said that the thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == ErrorKind::NotFound
    }

    /// Whether nobody answered at the endpoint.
    pub fn is_not_running(&self) -> bool {
        matches!(self, Error::NotRunning { .. })
    }
}

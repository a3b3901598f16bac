//! The engine's errors, in Docker's words: clients match on these texts.

use skep_types::ErrorKind;

/// Why an operation of the engine failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container of that name, id or id prefix.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// Several containers start with that prefix.
    #[error("Multiple IDs found with provided prefix: {0}")]
    AmbiguousContainer(String),
    /// No exec'd process of that id.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// No volume of that name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// No network of that name or id.
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    /// A network's settings are to be taken from one that holds none.
    #[error("configuration network {0:?} does not exist")]
    NoSuchConfiguration(String),
    /// No driver of that name.
    #[error("plugin {0:?} not found")]
    NoSuchPlugin(String),
    /// Nobody publishes the port.
    #[error("no running container publishes port {0}")]
    NoSuchPublishedPort(String),
    /// A path that is not there.
    #[error("Could not find the file {path} in container {container}")]
    NoSuchPath {
        /// The container as the user wrote it.
        container: String,
        /// The path.
        path: String,
    },
    /// The name is taken.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". \
         You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name.
        name: String,
        /// The id of the container that has it.
        holder: String,
    },
    /// The state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It is never allowed.
    #[error("{0}")]
    Forbidden(String),
    /// What it needs is not there now.
    #[error("{0}")]
    Unavailable(String),
    /// Not supported; names itself.
    #[error("{0}")]
    NotImplemented(String),
    /// The process could not be started.
    #[error("{message}")]
    Start {
        /// Not found, not executable, or anything else.
        cause: StartFailure,
        /// Docker's text.
        message: String,
    },
    /// The kernel's side of a network.
    #[error(transparent)]
    Network(#[from] skep_net::NetError),
    /// An operation on images.
    #[error(transparent)]
    Image(#[from] crate::images::ImageError),
    /// Something failed inside: which object, which step, why.
    #[error("{context}: {source}")]
    System {
        /// Object and step.
        context: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a process could not be started: decides the exit code of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFailure {
    /// 127.
    CommandNotFound,
    /// 126.
    NotExecutable,
    /// A published port is taken.
    PortInUse,
    /// Anything else.
    Other,
}

impl Error {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NoSuchContainer(_)
            | Error::NoSuchExec(_)
            | Error::NoSuchVolume(_)
            | Error::NoSuchNetwork(_)
            | Error::NoSuchConfiguration(_)
            | Error::NoSuchPlugin(_)
            | Error::NoSuchPublishedPort(_)
            | Error::NoSuchPath { .. } => ErrorKind::NotFound,
            Error::AmbiguousContainer(_) | Error::Invalid(_) => ErrorKind::InvalidParameter,
            Error::NameInUse { .. } | Error::Conflict(_) => ErrorKind::Conflict,
            Error::NotImplemented(_) => ErrorKind::NotImplemented,
            Error::Forbidden(_) => ErrorKind::Forbidden,
            Error::Unavailable(_) => ErrorKind::Unavailable,
            Error::Network(e) => e.kind(),
            Error::Image(e) => e.kind(),
            Error::Start { cause: StartFailure::CommandNotFound | StartFailure::NotExecutable, .. } => {
                ErrorKind::InvalidParameter
            }
            Error::Start { cause: StartFailure::PortInUse | StartFailure::Other, .. } | Error::System { .. } => {
                ErrorKind::System
            }
        }
    }

    /// Wraps an error of a lower layer: `context` tells object and step.
    pub(crate) fn system(
        context: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Error::System { context: context.into(), source: source.into() }
    }
}

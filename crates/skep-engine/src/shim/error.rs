//! What goes wrong between the engine and a shim.

use std::io;
use std::path::PathBuf;

use skep_runtime::protocol::frame::FrameError;
use skep_runtime::protocol::{Failure, FailureKind};

/// An operation on a shim that failed.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// The runtime's program could not be started.
    #[error("cannot start {}: {source}", path.display())]
    Spawn {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the bundle could not be written or read.
    #[error("{}: {source}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The shim's socket does not answer: the container has ended, or the shim was killed.
    #[error("cannot reach the container's shim: {0}")]
    Unreachable(io::Error),
    /// The connection broke.
    #[error("lost the container's shim: {0}")]
    Io(#[from] io::Error),
    /// The shim closed the connection instead of answering.
    #[error("the container's shim ended without an answer")]
    NoAnswer,
    /// The bytes are not of the protocol.
    #[error("the container's shim: {0}")]
    Frame(#[from] FrameError),
    /// An answer to something else.
    #[error("the container's shim gave an answer to another question: {0}")]
    WrongAnswer(String),
    /// The shim says no, or the container's program could not be executed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl ShimError {
    /// The shim's own account, if it is one: tells a missing command from one that can't be executed and from the rest.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            ShimError::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// The kind of the shim's failure; [`FailureKind::Other`] for everything that happened on the way.
    pub fn kind(&self) -> FailureKind {
        self.failure().map_or(FailureKind::Other, |f| f.kind)
    }
}

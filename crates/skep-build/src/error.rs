//! Why a build failed.

use std::any::Any;
use std::ops::RangeInclusive;
use std::sync::Arc;

use skep_types::{ErrorKind, Platform};

use crate::event::VertexId;
use crate::graph::Run;
use crate::worker::{Stack, Tree};

/// What operations of the builder return.
pub type Result<T, E = BuildError> = std::result::Result<T, E>;

/// Where in a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file's name, as the client called it.
    pub file: String,
    /// The whole text.
    pub text: std::sync::Arc<str>,
    /// Lines, the first is 1.
    pub lines: RangeInclusive<usize>,
}

/// A build that failed. The text is BuildKit's where scripts look at it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct BuildError {
    /// What kind of failure this is.
    pub kind: ErrorKind,
    /// What failed, on what, and why.
    pub message: String,
    /// The instruction that it comes from.
    pub location: Option<Box<Location>>,
    /// The step that failed.
    pub vertex: Option<VertexId>,
    /// The exit code of a `RUN` that failed.
    pub exit_code: Option<i32>,
    /// What the program that failed wrote, if the worker keeps it.
    pub written: Option<Written>,
    /// The `RUN` that failed, to be looked into.
    pub failed: Option<Arc<FailedStep>>,
}

/// What a program wrote on top of its base, as its worker keeps it. It stays as long as a clone lives.
#[derive(Clone)]
pub struct Written(pub Arc<dyn Any + Send + Sync>);

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Written")
    }
}

/// A program that failed, and all that it was run with. It stays as long as this lives.
#[derive(Debug)]
pub struct FailedStep {
    /// The program.
    pub run: Run,
    /// The layers that it ran on.
    pub base: Stack,
    /// What it wrote on top of them.
    pub written: Option<Written>,
    /// The trees of its mounts, as for [`Worker::run`](crate::worker::Worker::run).
    pub inputs: Vec<Tree>,
    /// Its platform.
    pub platform: Platform,
    /// What keeps all of it here.
    pub guards: Vec<Arc<dyn Any + Send + Sync>>,
}

impl BuildError {
    /// An error without a place.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        BuildError { kind, message, location: None, vertex: None, exit_code: None, written: None, failed: None }
    }

    /// The request or the Dockerfile is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParameter, message)
    }

    /// The same error, at a place, unless it has one already.
    #[must_use]
    pub fn at(self, location: Location) -> Self {
        let location = self.location.or_else(|| Some(Box::new(location)));
        BuildError { location, ..self }
    }
}

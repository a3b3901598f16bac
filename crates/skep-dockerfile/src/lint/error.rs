//! Why a Dockerfile that was checked can't be built.

use skep_types::ReferenceError;

use super::options::OptionsError;
use crate::dockerfile::{DockerfileError, TriggerError};
use crate::expand::ExpandError;
use crate::instructions::{ExposeError, FromError, InstructionError};
use crate::quote::quoted;
use crate::source::Lines;
use crate::stages::StageError;
use crate::syntax::SyntaxError;

/// Why it can't be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The options of the check.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The text.
    #[error(transparent)]
    Dockerfile(#[from] DockerfileError),
    /// How stages depend on each other.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// Rules were violated, and that is an error by `error=true`.
    #[error("lint violation found for rules: {}", .0.join(", "))]
    Violations(Vec<&'static str>),
    /// One instruction.
    #[error("{problem}")]
    At {
        /// Where.
        lines: Lines,
        /// What is wrong with it.
        problem: StepProblem,
    },
}

/// What is wrong with an instruction once its variables are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepProblem {
    /// A word.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// A mount.
    #[error(transparent)]
    Instruction(#[from] InstructionError),
    /// FROM.
    #[error(transparent)]
    From(#[from] FromError),
    /// A trigger of the base image.
    #[error(transparent)]
    Trigger(#[from] TriggerError),
    /// EXPOSE.
    #[error(transparent)]
    Expose(#[from] ExposeError),
    /// VOLUME of nothing.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// STOPSIGNAL of something else.
    #[error("invalid signal: {0}")]
    Signal(String),
    /// An image whose name is none.
    #[error("failed to parse stage name {}: {error}", quoted(.name))]
    Image {
        /// As expanded.
        name: String,
        /// Why not.
        error: ReferenceError,
    },
}

impl From<SyntaxError> for CheckError {
    fn from(error: SyntaxError) -> Self {
        CheckError::Dockerfile(error.into())
    }
}

impl CheckError {
    pub(super) fn at(lines: Lines) -> impl Fn(StepProblem) -> CheckError {
        move |problem| CheckError::At { lines, problem }
    }

    /// The lines that it is about.
    pub fn lines(&self) -> Option<Lines> {
        match self {
            CheckError::Options(_) | CheckError::Violations(_) => None,
            CheckError::Dockerfile(error) => error.lines(),
            CheckError::Stage(error) => error.lines(),
            CheckError::At { lines, .. } => Some(*lines),
        }
    }
}

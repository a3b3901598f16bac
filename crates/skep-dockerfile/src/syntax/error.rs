//! What can be wrong with a file before its instructions are looked at.

use crate::expand::ExpandError;
use crate::quote::quoted;
use crate::source::Lines;

/// A file that can't be cut into instructions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct SyntaxError {
    /// Where.
    pub lines: Lines,
    /// What.
    pub problem: SyntaxProblem,
}

/// What is wrong with it, in BuildKit's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what each is")]
pub enum SyntaxProblem {
    #[error("the Dockerfile cannot be empty")]
    Empty,
    #[error("file with no instructions")]
    NoInstructions,
    #[error("only one {0} parser directive can be used")]
    DuplicateDirective(String),
    #[error("invalid escape token '{0}' does not match ` or \\")]
    EscapeToken(String),
    #[error("unterminated heredoc")]
    UnterminatedHeredoc,
    #[error("{0} must have two arguments")]
    TwoArguments(&'static str),
    #[error("Syntax error - can't find = in {}. Must be of the form: name=value", quoted(.0))]
    NoEquals(String),
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    NotStrings,
    #[error("ONBUILD instructions are nested too deeply")]
    Depth,
    #[error(transparent)]
    Expand(#[from] ExpandError),
}

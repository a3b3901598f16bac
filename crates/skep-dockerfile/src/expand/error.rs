//! What can be wrong with a word.

use crate::quote::quoted;

/// A text that can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {problem}", quoted(text))]
pub struct ExpandError {
    /// The whole text.
    pub text: String,
    /// Why not.
    pub problem: Problem,
}

/// Why a text can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No second `'`.
    #[error("unexpected end of statement while looking for matching single-quote")]
    SingleQuote,
    /// No second `"`.
    #[error("unexpected end of statement while looking for matching double-quote")]
    DoubleQuote,
    /// `${` without `}`.
    #[error("syntax error: missing '}}'")]
    Brace,
    /// `${a/b` without the second `/`.
    #[error("syntax error: missing '/' in ${{}}")]
    Slash,
    /// `${}`, `${:`, `${{`.
    #[error("syntax error: bad substitution")]
    Substitution,
    /// A character that no modifier begins with.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// `${name?message}` of a variable that is not set, or empty with `:?`.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the Dockerfile says about it, or what is demanded.
        message: String,
    },
    /// The pattern of `#`, `%` or `/`.
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    Pattern {
        /// As written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More substitutions inside of each other than anybody writes.
    #[error("syntax error: substitutions are nested too deeply")]
    Depth,
}

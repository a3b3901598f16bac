//! Text to nodes: lines, comments, continuation, heredocs; the words of an instruction, but not yet what they mean.
//!
//! ```text
//!   file ─▶ directives ─▶ logical lines ─▶ keyword, flags, arguments ─▶ Node
//!           (first lines)  (continuation,    (by the keyword's grammar)
//!                           comments)                 └─▶ heredocs take the lines that follow
//! ```
//!
//! Bytes that are not UTF-8 become U+FFFD. Lines may be of any length.

mod arguments;
mod directives;
mod error;
mod heredoc;
mod lines;
mod split;
mod words;

use crate::instructions::Pair;
use crate::source::{Escape, Lines, Source};

pub use directives::{Directive, Directives, directive, frontend};
pub use error::{SyntaxError, SyntaxProblem};
pub use heredoc::{Heredoc, Mark};
pub use lines::parse;

/// A Dockerfile as nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// At least one.
    pub nodes: Vec<Node>,
    /// What the first comments decide.
    pub directives: Directives,
    /// Instructions with empty lines between their continued lines: the last line of each.
    pub empty_continuations: Vec<Lines>,
}

impl File {
    /// The escape character.
    pub fn escape(&self) -> Escape {
        self.directives.escape
    }
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The first word, as written. It need not be the name of an instruction.
    pub keyword: String,
    /// `--name=value`, without quotes.
    pub flags: Vec<String>,
    /// The rest.
    pub arguments: NodeArguments,
    /// Documents, in the order of their `<<`.
    pub heredocs: Vec<Heredoc>,
    /// The instruction as one line.
    pub code: String,
    /// Where it stands.
    pub lines: Lines,
    /// Comment lines right before it.
    pub comments: Vec<String>,
}

/// The arguments of an instruction, by its grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeArguments {
    /// Words with their quotes; for many instructions all of the line is one word.
    Words(Vec<String>),
    /// A JSON array of strings.
    Json(Vec<String>),
    /// ENV and LABEL.
    Pairs(Vec<Pair>),
    /// HEALTHCHECK: a kind and a command.
    Typed {
        /// `CMD` or `NONE`, if it is right.
        kind: String,
        /// Words or JSON.
        command: Box<NodeArguments>,
    },
    /// ONBUILD.
    Nested(Box<Node>),
}

impl Node {
    /// How the instruction was written.
    pub fn source(&self) -> Source {
        Source {
            keyword: self.keyword.clone(),
            code: self.code.trim().to_owned(),
            lines: self.lines,
            comments: self.comments.clone(),
        }
    }

    /// Whether `<<` begins a document here: in RUN, COPY and ADD, also as triggers, but not in JSON.
    fn takes_heredocs(&self) -> bool {
        let is = |name: &str| self.keyword.eq_ignore_ascii_case(name);
        match &self.arguments {
            NodeArguments::Nested(nested) => is("ONBUILD") && nested.takes_own_heredocs(),
            _ => self.takes_own_heredocs(),
        }
    }

    fn takes_own_heredocs(&self) -> bool {
        ["RUN", "COPY", "ADD"].iter().any(|name| self.keyword.eq_ignore_ascii_case(name))
            && !matches!(self.arguments, NodeArguments::Json(_))
    }
}

#[cfg(test)]
mod tests;

//! Where something stands in a Dockerfile.

use std::fmt;

/// Lines of a Dockerfile: counted from 1, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lines {
    /// The first line.
    pub start: usize,
    /// The last line; not before `start`.
    pub end: usize,
}

impl Lines {
    /// A single line.
    pub const fn one(line: usize) -> Self {
        Lines { start: line, end: line }
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.start == self.end {
            true => write!(f, "line {}", self.start),
            false => write!(f, "lines {}-{}", self.start, self.end),
        }
    }
}

/// How an instruction was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The instruction's name as it stands there (`RUN`, `run`).
    pub keyword: String,
    /// The whole instruction, continuation lines joined, without what heredocs it has. This is what progress and history show.
    pub code: String,
    /// From the keyword to the last line, heredocs included.
    pub lines: Lines,
    /// The comment lines before it, since the last instruction or empty comment, without `#` and blanks around.
    pub comments: Vec<String>,
}

/// The character that quotes the next one and continues a line: `\`, or `` ` `` by directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escape {
    /// `\`.
    #[default]
    Backslash,
    /// `` ` ``: for paths of Windows.
    Backtick,
}

impl Escape {
    /// The character itself.
    pub const fn char(self) -> char {
        match self {
            Escape::Backslash => '\\',
            Escape::Backtick => '`',
        }
    }
}

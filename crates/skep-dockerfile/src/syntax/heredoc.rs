//! Heredocs: `<<NAME`, `<<-NAME`, `<<"NAME"`.

use std::borrow::Cow;

use crate::expand::{ExpandError, Lexer, Nothing, Uses};
use crate::source::Escape;

/// A document that stands after an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter, without quotes.
    pub name: String,
    /// All lines up to the delimiter, with their line ends, as written.
    pub content: String,
    /// Whether variables in it are to be replaced: nothing of the delimiter was quoted.
    pub expands: bool,
    /// `<<-`: leading tabs don't belong to the text.
    pub strips_tabs: bool,
    /// The number before `<<`, for the shell.
    pub descriptor: u32,
}

/// A word that announces a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// As in [`Heredoc`].
    pub name: String,
    /// As in [`Heredoc`].
    pub expands: bool,
    /// As in [`Heredoc`].
    pub strips_tabs: bool,
    /// As in [`Heredoc`].
    pub descriptor: u32,
}

/// The lexer for delimiters: variables mean nothing in them.
const LEXER: Lexer = Lexer { keep_unset: true, ..Lexer::new(Escape::Backslash) };

impl Heredoc {
    /// The document that a word announces, if it does.
    pub fn mark(word: &str) -> Option<Mark> {
        Self::read_mark(word).ok().flatten()
    }

    fn read_mark(word: &str) -> Result<Option<Mark>, ExpandError> {
        let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let Some(rest) = word[digits..].strip_prefix("<<") else { return Ok(None) };
        let (rest, strips_tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
        if rest.is_empty() || rest.contains('<') {
            return Ok(None);
        }
        let words = |lexer: Lexer| Ok(lexer.process(rest, &Nothing, &mut Uses::default())?.words);
        let plain = words(LEXER)?;
        let raw = words(Lexer { keep_quotes: true, ..LEXER })?;
        let ([name], [raw]) = (plain.as_slice(), raw.as_slice()) else { return Ok(None) };
        let quotes = |text: &str| text.matches(['\'', '"']).count();
        Ok(Some(Mark {
            expands: quotes(name) == quotes(raw),
            name: name.clone(),
            strips_tabs,
            descriptor: word[..digits].parse().unwrap_or_default(),
        }))
    }

    /// The documents that a line announces. A line that is no words at all announces none.
    pub(super) fn marks(line: &str) -> Result<Vec<Mark>, ExpandError> {
        let lexer = Lexer { keep_quotes: true, keep_escapes: true, ..LEXER };
        let words =
            lexer.process(line, &Nothing, &mut Uses::default()).map(|expanded| expanded.words).unwrap_or_default();
        words.iter().filter_map(|word| Self::read_mark(word).transpose()).collect()
    }

    /// The content as it is meant: without leading tabs if the mark says so.
    pub fn text(&self) -> String {
        if !self.strips_tabs {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

impl Mark {
    /// Whether a line ends the document.
    pub(super) fn ends_at(&self, line: &str) -> bool {
        let line = line.trim_end_matches(['\r', '\n']);
        let line = if self.strips_tabs { Cow::Borrowed(line.trim_start_matches('\t')) } else { Cow::Borrowed(line) };
        line == self.name
    }

    pub(super) fn with_content(self, content: String) -> Heredoc {
        let Mark { name, expands, strips_tabs, descriptor } = self;
        Heredoc { name, content, expands, strips_tabs, descriptor }
    }
}

//! Physical lines to instructions.

use std::iter::{Enumerate, Peekable};
use std::str::SplitInclusive;

use crate::source::{Escape, Lines};

use super::directives::{Directives, Reader};
use super::error::{SyntaxError, SyntaxProblem};
use super::heredoc::Heredoc;
use super::{File, Node, split};

/// Cuts a Dockerfile into instructions.
///
/// # Errors
/// The first thing that no instruction can be made of. Whether instructions exist and make sense is not asked here.
pub fn parse(text: &[u8]) -> Result<File, SyntaxError> {
    let at = |line, problem| SyntaxError { lines: Lines::one(line), problem };
    if text.is_empty() {
        return Err(at(1, SyntaxProblem::Empty));
    }
    let text = String::from_utf8_lossy(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
    let mut parser = Parser {
        lines: text.split_inclusive('\n').enumerate().peekable(),
        current: 0,
        reader: Reader::default(),
        directives: Directives::default(),
        empty_continuations: Vec::new(),
    };
    let mut nodes = Vec::new();
    while let Some(node) = parser.next_node()? {
        nodes.push(node);
    }
    if nodes.is_empty() {
        return Err(at(parser.current.max(1), SyntaxProblem::NoInstructions));
    }
    let Parser { directives, empty_continuations, .. } = parser;
    Ok(File { nodes, directives, empty_continuations })
}

struct Parser<'t> {
    lines: Peekable<Enumerate<SplitInclusive<'t, char>>>,
    /// The number of the line that was taken last.
    current: usize,
    reader: Reader,
    directives: Directives,
    empty_continuations: Vec<Lines>,
}

impl<'t> Parser<'t> {
    fn next_line(&mut self) -> Option<&'t str> {
        let (index, line) = self.lines.next()?;
        self.current = index + 1;
        Some(line)
    }

    fn next_node(&mut self) -> Result<Option<Node>, SyntaxError> {
        let mut comments = Vec::new();
        while let Some(line) = self.next_line() {
            let line = line.trim_end_matches(['\r', '\n']).trim_start();
            if self.is_directive(line)? {
                continue;
            }
            if let Some(comment) = line.strip_prefix('#') {
                // An empty comment separates; an empty line does not.
                match comment.trim() {
                    "" => comments.clear(),
                    comment => comments.push(comment.to_owned()),
                }
                continue;
            }
            let (first, continues) = self.continuation(line);
            if first.is_empty() && !continues {
                continue;
            }
            let start = self.current;
            let code = self.continued(first, continues);
            return self.node(code, start, comments).map(Some);
        }
        Ok(None)
    }

    fn is_directive(&mut self, line: &str) -> Result<bool, SyntaxError> {
        let line_number = self.current;
        let found = self.reader.read(line, "#").and_then(|found| match found {
            Some((name, value)) => self.directives.set(name, value, line_number).map(|()| true),
            None => Ok(false),
        });
        found.map_err(|problem| SyntaxError { lines: Lines::one(line_number), problem })
    }

    /// Joins the lines that a line continues on. Comments between them are dropped, and so are empty lines, with a note.
    fn continued(&mut self, first: &str, mut continues: bool) -> String {
        let mut code = first.to_owned();
        let mut has_empty = false;
        while continues {
            let Some(line) = self.next_line() else { break };
            let line = line.trim_end_matches(['\r', '\n']);
            let text = line.trim_start();
            if text.starts_with('#') {
                continue;
            }
            if text.is_empty() {
                has_empty = true;
                continue;
            }
            let (line, goes_on) = self.continuation(line);
            code.push_str(line);
            continues = goes_on;
        }
        if has_empty {
            self.empty_continuations.push(Lines::one(self.current));
        }
        code
    }

    /// The line without the escape character at its end, if that continues it; an escaped one does not.
    fn continuation<'l>(&self, line: &'l str) -> (&'l str, bool) {
        let escape = self.directives.escape.char();
        match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(rest) if !rest.ends_with(escape) => (rest, true),
            _ => (line, false),
        }
    }

    fn node(&mut self, code: String, start: usize, comments: Vec<String>) -> Result<Node, SyntaxError> {
        let escape: Escape = self.directives.escape;
        let end = self.current;
        let wrong = |end, problem| SyntaxError { lines: Lines { start, end }, problem };
        let mut node = split::node(&code, escape, 0).map_err(|problem| wrong(end, problem))?;
        if node.takes_heredocs() {
            let marks = Heredoc::marks(&code).map_err(|error| wrong(end, error.into()))?;
            for mark in marks {
                let mut content = String::new();
                loop {
                    match self.next_line() {
                        Some(line) if mark.ends_at(line) => break,
                        Some(line) => content.push_str(line),
                        None => return Err(wrong(self.current, SyntaxProblem::UnterminatedHeredoc)),
                    }
                }
                node.heredocs.push(mark.with_content(content));
            }
        }
        node.lines = Lines { start, end: self.current };
        node.comments = comments;
        Ok(node)
    }
}

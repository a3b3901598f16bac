//! Parser directives: `# syntax=`, `# escape=`, `# check=` in the first lines of a file.
//!
//! Directives end with the first line that is none; each may stand there once, in any case, with blanks around its parts.

use crate::source::{Escape, Lines};

use super::error::SyntaxProblem;

/// What the first comments decide.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directives {
    /// The frontend. Taken note of: this crate is the frontend.
    pub syntax: Option<Directive>,
    /// The escape character.
    pub escape: Escape,
    /// Options of the checks, for [`crate::lint::Options`].
    pub check: Option<Directive>,
}

/// One directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// What stands after `=`.
    pub value: String,
    /// Its line.
    pub line: usize,
}

/// Reads directives line by line, until one is something else.
#[derive(Debug, Default)]
pub(super) struct Reader {
    seen: Vec<&'static str>,
    is_done: bool,
}

const NAMES: [&str; 3] = ["syntax", "escape", "check"];

impl Reader {
    /// The directive on a line, if it is one.
    pub(super) fn read<'l>(
        &mut self,
        line: &'l str,
        comment: &str,
    ) -> Result<Option<(&'static str, &'l str)>, SyntaxProblem> {
        if self.is_done {
            return Ok(None);
        }
        let Some((name, value)) = line.strip_prefix(comment).and_then(pair) else {
            self.is_done = true;
            return Ok(None);
        };
        if self.seen.contains(&name) {
            return Err(SyntaxProblem::DuplicateDirective(name.to_owned()));
        }
        self.seen.push(name);
        Ok(Some((name, value)))
    }
}

/// `name = value`, of a name that is known.
fn pair(text: &str) -> Option<(&'static str, &str)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim_start().trim_end_matches(|c: char| c.is_ascii_whitespace());
    let value = value.trim_matches(|c: char| c.is_ascii_whitespace());
    let known = NAMES.into_iter().find(|known| known.eq_ignore_ascii_case(name))?;
    (!value.is_empty()).then_some((known, value))
}

impl Directives {
    pub(super) fn set(&mut self, name: &str, value: &str, line: usize) -> Result<(), SyntaxProblem> {
        let directive = Directive { value: value.to_owned(), line };
        match (name, value) {
            ("syntax", _) => self.syntax = Some(directive),
            ("check", _) => self.check = Some(directive),
            (_, "\\") => self.escape = Escape::Backslash,
            (_, "`") => self.escape = Escape::Backtick,
            _ => return Err(SyntaxProblem::EscapeToken(value.to_owned())),
        }
        Ok(())
    }
}

/// The value of one directive, without reading the rest of the file. A first line `#!` is passed over.
pub fn directive(name: &str, text: &[u8]) -> Option<Directive> {
    by_comment(name, text, "#")
}

/// The frontend that a file wants: from a comment with `#` or `//`, or from a JSON object with the key `syntax`.
///
/// The first word is the image; what follows it is the frontend's.
pub fn frontend(text: &[u8]) -> Option<Directive> {
    let json = || {
        let object: serde_json::Value = serde_json::from_slice(body(text).0).ok()?;
        Some(Directive { value: object.get("syntax")?.as_str()?.to_owned(), line: 1 })
    };
    directive("syntax", text).or_else(|| by_comment("syntax", text, "//")).or_else(json)
}

fn by_comment(name: &str, text: &[u8], comment: &str) -> Option<Directive> {
    let (body, skipped) = body(text);
    let mut reader = Reader::default();
    for (number, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        let (found, value) = reader.read(&line, comment).ok()??;
        if found == name {
            return Some(Directive { value: value.to_owned(), line: number + skipped + 1 });
        }
    }
    None
}

/// The text without byte order mark and interpreter line, and how many lines that took.
fn body(text: &[u8]) -> (&[u8], usize) {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    match text.starts_with(b"#!") {
        true => (text.splitn(2, |byte| *byte == b'\n').nth(1).unwrap_or_default(), 1),
        false => (text, 0),
    }
}

impl Directive {
    /// Where it stands.
    pub const fn lines(&self) -> Lines {
        Lines::one(self.line)
    }
}

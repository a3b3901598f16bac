//! Keyword and flags of an instruction.

use crate::source::{Escape, Lines};

use super::error::SyntaxProblem;
use super::{Node, NodeArguments, arguments};

/// How many ONBUILD may stand before one another. Two are refused anyway, in better words, when the instruction is read.
const MAX_DEPTH: usize = 16;

/// Blanks between words: these, and no others.
pub(super) const BLANKS: [char; 5] = ['\t', '\u{b}', '\u{c}', '\r', ' '];

/// A node without lines, comments and heredocs.
pub(super) fn node(code: &str, escape: Escape, depth: usize) -> Result<Node, SyntaxProblem> {
    if depth > MAX_DEPTH {
        return Err(SyntaxProblem::Depth);
    }
    let text = code.trim();
    let (keyword, rest) = match text.find(BLANKS) {
        Some(at) => (&text[..at], text[at..].trim_start_matches(BLANKS)),
        None => (text, ""),
    };
    let (flags, rest) = flags(rest);
    Ok(Node {
        keyword: keyword.to_owned(),
        flags,
        arguments: match keyword.eq_ignore_ascii_case("ONBUILD") && !rest.trim().is_empty() {
            true => NodeArguments::Nested(Box::new(node(rest.trim(), escape, depth + 1)?)),
            false => arguments::read(keyword, rest.trim(), escape)?,
        },
        heredocs: Vec::new(),
        code: code.to_owned(),
        lines: Lines::one(1),
        comments: Vec::new(),
    })
}

/// The words at the beginning that start with `--`, and what follows them. Quotes and backslashes work as in a shell, without
/// variables; `--` alone ends the flags.
fn flags(text: &str) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, rest);
        }
        let (word, after) = flag(rest);
        rest = after;
        if word == "--" {
            return (flags, rest);
        }
        if !word.is_empty() {
            flags.push(word);
        }
    }
}

fn flag(text: &str) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (c, quote) {
            _ if quote == Some(c) => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            ('\\', _) => word.extend(chars.next().map(|(_, c)| c)),
            (c, None) if c.is_whitespace() => return (word, &text[at..]),
            (c, _) => word.push(c),
        }
    }
    (word, "")
}

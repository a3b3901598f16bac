//! Patterns of `${name#pattern}`, `${name%pattern}` and `${name/pattern/text}`: `*`, `?` and `\`, and nothing else.

use regex::Regex;

use super::error::Problem;

/// Whether `*` takes as much as it can, or as little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Star {
    Longest,
    Shortest,
}

/// `value` without what `pattern` matches at its beginning.
pub(super) fn without_prefix(value: &str, pattern: &str, star: Star) -> Result<String, Problem> {
    let found = compile(pattern, star, "^")?.find(value);
    Ok(found.map_or(value, |found| &value[found.end()..]).to_owned())
}

/// `value` without what `pattern` matches at its end. The shortest match at an end is found by reading both backwards.
pub(super) fn without_suffix(value: &str, pattern: &str, star: Star) -> Result<String, Problem> {
    let value: String = value.chars().rev().collect();
    let rest = without_prefix(&value, &reversed(pattern), star)?;
    Ok(rest.chars().rev().collect())
}

/// `value` with the first match, or all, replaced. Where all are replaced, `$` refers to the match, as in Go's regexp.
pub(super) fn replaced(value: &str, pattern: &str, replacement: &str, all: bool) -> Result<String, Problem> {
    let regex = compile(pattern, Star::Longest, "")?;
    if all {
        return Ok(regex.replace_all(value, replacement).into_owned());
    }
    Ok(match regex.find(value) {
        Some(found) => format!("{}{replacement}{}", &value[..found.start()], &value[found.end()..]),
        None => value.to_owned(),
    })
}

fn compile(pattern: &str, star: Star, anchor: &str) -> Result<Regex, Problem> {
    let invalid = |reason: String| Problem::Pattern { pattern: pattern.to_owned(), reason };
    let mut expression = anchor.to_owned();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if star == Star::Longest => expression.push_str(".*"),
            '*' => expression.push_str(".*?"),
            '?' => expression.push('.'),
            // `\}` and `\/` are there for the braces; the pattern has the bare character.
            '\\' if matches!(chars.peek(), Some('}' | '/')) => {}
            '\\' => match chars.next() {
                Some(c @ ('*' | '?' | '\\')) => expression.extend(['\\', c]),
                Some(c) => return Err(invalid(format!("invalid escape '\\{c}'"))),
                None => return Err(invalid("invalid escape at the end".to_owned())),
            },
            c => expression.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    Regex::new(&expression).map_err(|_| invalid("too long".to_owned()))
}

/// Backwards, with escapes kept before what they escape.
fn reversed(pattern: &str) -> String {
    let mut pieces: Vec<String> = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('\\', Some(next)) => {
                pieces.push(format!("\\{next}"));
                chars.next();
            }
            _ => pieces.push(c.to_string()),
        }
    }
    pieces.into_iter().rev().collect()
}

//! Words of Dockerfile instructions: quotes, backslashes, and variables (`$A`, `${A}`, `${A:-default}`, `${A:+other}`).

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// The variables that are set.
pub(super) type Variables = BTreeMap<String, String>;

/// What is wrong with a text.
pub(super) type Mistake = &'static str;

/// How deep variables may be nested in the defaults of others.
const MAX_DEPTH: u8 = 16;

/// The words of a text.
pub(super) fn split(text: &str, variables: &Variables) -> Result<Vec<String>, Mistake> {
    let mut chars = text.chars().peekable();
    let mut words = Vec::new();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(words);
        }
        words.push(word(&mut chars, variables, 0, char::is_whitespace)?);
    }
}

/// `a=1 b="2 3"`, or the old form `a the whole rest`.
pub(super) fn split_pairs(text: &str, variables: &Variables) -> Result<Vec<(String, String)>, Mistake> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') && !first.contains(['"', '\'']) {
        let (key, value) = text.split_once(char::is_whitespace).ok_or("must have two arguments")?;
        let value = word(&mut value.trim().chars().peekable(), variables, 0, |_| false)?;
        return Ok(vec![(key.to_owned(), value)]);
    }
    let mut chars = text.chars().peekable();
    let mut pairs = Vec::new();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(pairs);
        }
        let key = word(&mut chars, variables, 0, |c| c == '=' || c.is_whitespace())?;
        if chars.next() != Some('=') {
            return Err("names must be followed by =");
        }
        if key.is_empty() {
            return Err("names can not be blank");
        }
        pairs.push((key, word(&mut chars, variables, 0, char::is_whitespace)?));
    }
}

/// One word, up to a letter that ends it and is left.
fn word(
    chars: &mut Peekable<Chars<'_>>,
    variables: &Variables,
    depth: u8,
    ends: impl Fn(char) -> bool,
) -> Result<String, Mistake> {
    let mut out = String::new();
    while let Some(c) = chars.next_if(|c| !ends(*c)) {
        match c {
            '\'' => loop {
                match chars.next().ok_or("has a quote that is not closed")? {
                    '\'' => break,
                    c => out.push(c),
                }
            },
            '"' => loop {
                match chars.next().ok_or("has a quote that is not closed")? {
                    '"' => break,
                    '\\' => match chars.next().ok_or("has a quote that is not closed")? {
                        c @ ('"' | '\\' | '$') => out.push(c),
                        c => out.extend(['\\', c]),
                    },
                    '$' => variable(chars, variables, depth, &mut out)?,
                    c => out.push(c),
                }
            },
            '\\' => out.extend(chars.next()),
            '$' => variable(chars, variables, depth, &mut out)?,
            c => out.push(c),
        }
    }
    Ok(out)
}

fn variable(
    chars: &mut Peekable<Chars<'_>>,
    variables: &Variables,
    depth: u8,
    out: &mut String,
) -> Result<(), Mistake> {
    if depth > MAX_DEPTH {
        return Err("has variables nested too deep");
    }
    let braced = chars.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
    }
    let value = variables.get(&name).map(String::as_str).unwrap_or_default();
    if !braced {
        out.push_str(if name.is_empty() { "$" } else { value });
        return Ok(());
    }
    match chars.next() {
        Some('}') => out.push_str(value),
        Some(':') => {
            let modifier = chars.next();
            let other = word(chars, variables, depth + 1, |c| c == '}')?;
            if chars.next() != Some('}') {
                return Err("has a variable that is not closed");
            }
            match modifier {
                Some('-') => out.push_str(if value.is_empty() { &other } else { value }),
                Some('+') => out.push_str(if value.is_empty() { "" } else { &other }),
                _ => return Err("has a modifier that is not supported in a variable"),
            }
        }
        _ => return Err("has a variable that is not closed"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_variables() {
        let variables: Variables = [("A".to_owned(), "1".to_owned())].into();
        let words = |text| split(text, &variables);
        assert_eq!(
            words(r#"a "b c" d\ e '$A' "$A" x${A}y $"#).expect("words"),
            ["a", "b c", "d e", "$A", "1", "x1y", "$"]
        );
        assert_eq!(words("${B:-d} ${A:+o} ${A:-d}").expect("words"), ["d", "o", "1"]);
        for bad in ["'", "\"a", "${A", "${A:?x}", "${A:-x"] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }
}

//! The reader behind [`Expander`](super::Expander).

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

use super::Variables;
use super::error::{ExpandError, Problem};
use super::pattern::{Star, replaced, without_prefix, without_suffix};
use crate::source::Escape;

/// How deep substitutions may stand inside of each other; each level takes room on the stack.
const MAX_DEPTH: usize = 100;

/// Reads words. The switches are off for the fields of instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lexer {
    /// The escape character.
    pub escape: Escape,
    /// Quotes stay in the result (and still quote).
    pub keep_quotes: bool,
    /// Escape characters stay in the result (and still escape).
    pub keep_escapes: bool,
    /// Quotes are ordinary characters.
    pub skip_quotes: bool,
    /// Variables that are not set stay as they are written.
    pub keep_unset: bool,
}

/// What a text becomes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// All of it as one word.
    pub word: String,
    /// The same as words separated by blanks.
    pub words: Vec<String>,
}

/// Which variables were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    /// Those that are set.
    pub matched: BTreeSet<String>,
    /// Those that are not.
    pub unmatched: BTreeSet<String>,
}

impl Lexer {
    /// The lexer for the fields of instructions.
    pub const fn new(escape: Escape) -> Self {
        Lexer { escape, keep_quotes: false, keep_escapes: false, skip_quotes: false, keep_unset: false }
    }

    /// Expands a text, and adds to `uses` what it uses, also if it is wrong.
    ///
    /// # Errors
    /// An open quote, a substitution that makes no sense, a variable that `:?` demands.
    pub fn process(&self, text: &str, variables: &dyn Variables, uses: &mut Uses) -> Result<Expanded, ExpandError> {
        let mut reader = Reader { lexer: *self, chars: text.chars().peekable(), variables, uses, depth: 0 };
        match reader.read_until(None, self.keep_escapes) {
            Ok((word, words)) => Ok(Expanded { word, words }),
            Err(problem) => Err(ExpandError { text: text.to_owned(), problem }),
        }
    }
}

/// The second view of a text: split at blanks that nothing quotes.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    open: String,
}

impl Words {
    fn plain(&mut self, c: char) {
        match c.is_whitespace() {
            true => self.close(),
            false => self.open.push(c),
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
        }
    }
}

struct Reader<'t> {
    lexer: Lexer,
    chars: Peekable<Chars<'t>>,
    variables: &'t dyn Variables,
    uses: &'t mut Uses,
    depth: usize,
}

impl Reader<'_> {
    /// Up to `stop`, which is taken, or the end of the text.
    fn read_until(&mut self, stop: Option<char>, keep_escapes: bool) -> Result<(String, Vec<String>), Problem> {
        let outer = std::mem::replace(&mut self.lexer.keep_escapes, keep_escapes);
        let read = self.read_parts(stop);
        self.lexer.keep_escapes = outer;
        read
    }

    fn read_parts(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), Problem> {
        let (mut result, mut words) = (String::new(), Words::default());
        while let Some(&c) = self.chars.peek() {
            match c {
                _ if Some(c) == stop => {
                    self.chars.next();
                    words.close();
                    return Ok((result, words.done));
                }
                '$' => {
                    let value = self.variable()?;
                    result.push_str(&value);
                    value.chars().for_each(|c| words.plain(c));
                }
                '\'' | '"' if !self.lexer.skip_quotes => {
                    let text = if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    result.push_str(&text);
                    words.open.push_str(&text);
                }
                _ => {
                    self.chars.next();
                    if c != self.lexer.escape.char() {
                        result.push(c);
                        words.plain(c);
                        continue;
                    }
                    // An escape as the last character is nothing.
                    let kept = self.lexer.keep_escapes.then_some(c);
                    for c in kept.into_iter().chain(self.chars.next()) {
                        result.push(c);
                        words.open.push(c);
                    }
                }
            }
        }
        words.close();
        // Only braces and the first half of `/` have a stop; their callers know what is missing.
        if stop.is_some() { Err(Problem::Brace) } else { Ok((result, words.done)) }
    }

    fn single_quoted(&mut self) -> Result<String, Problem> {
        let mut text = String::new();
        self.quote(&mut text);
        loop {
            match self.chars.peek() {
                None => return Err(Problem::SingleQuote),
                Some('\'') => {
                    self.quote(&mut text);
                    return Ok(text);
                }
                Some(&c) => {
                    self.chars.next();
                    text.push(c);
                }
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String, Problem> {
        let escape = self.lexer.escape.char();
        let mut text = String::new();
        self.quote(&mut text);
        loop {
            match self.chars.peek() {
                None => return Err(Problem::DoubleQuote),
                Some('"') => {
                    self.quote(&mut text);
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.variable()?),
                Some(&c) if c == escape => {
                    self.chars.next();
                    if self.lexer.keep_escapes {
                        text.push(c);
                    }
                    // Only these can be escaped here; before all else the escape character is itself.
                    match self.chars.next_if(|&next| next == '"' || next == '$' || next == escape) {
                        Some(next) => text.push(next),
                        None if self.chars.peek().is_some() => text.push(c),
                        None => {}
                    }
                }
                Some(&c) => {
                    self.chars.next();
                    text.push(c);
                }
            }
        }
    }

    /// Takes a quote, which is part of the text only where quotes are kept.
    fn quote(&mut self, text: &mut String) {
        let quote = self.chars.next();
        if self.lexer.keep_quotes {
            text.extend(quote);
        }
    }

    /// From `$` on.
    fn variable(&mut self) -> Result<String, Problem> {
        self.chars.next();
        if self.chars.peek() == Some(&'{') {
            self.chars.next();
            self.depth += 1;
            let value = if self.depth > MAX_DEPTH { Err(Problem::Depth) } else { self.braces() };
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        match self.value(&name) {
            None if self.lexer.keep_unset => Ok(format!("${name}")),
            value => Ok(value.unwrap_or_default()),
        }
    }

    /// After `${`.
    fn braces(&mut self) -> Result<String, Problem> {
        match self.chars.peek() {
            None => return Err(Problem::Brace),
            Some('{' | '}' | ':') => return Err(Problem::Substitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.chars.next() {
            Some('}') => match self.value(&name) {
                None if self.lexer.keep_unset => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            Some(':') => match self.chars.next() {
                Some(modifier @ ('-' | '+' | '?')) => self.choice(&name, modifier, true),
                Some(modifier @ ('#' | '%')) => Err(Problem::Modifier(format!(":{modifier}"))),
                other => self.unsupported(&name, &format!(":{}", other.map(String::from).unwrap_or_default())),
            },
            Some(modifier @ ('-' | '+' | '?')) => self.choice(&name, modifier, false),
            Some(modifier @ ('#' | '%')) => self.trimmed(&name, modifier),
            Some('/') => self.replaced(&name),
            Some(other) => Err(Problem::Modifier(other.to_string())),
            None => Err(Problem::Modifier("\u{fffd}".to_owned())),
        }
    }

    /// A modifier nobody knows: the braces have to be closed for that to be the complaint. One of bash's may stay where
    /// variables do.
    fn unsupported(&mut self, name: &str, modifier: &str) -> Result<String, Problem> {
        let (word, _) = self.read_until(Some('}'), false).map_err(|problem| self.at_end_or(Problem::Brace, problem))?;
        match self.value(name) {
            None if self.lexer.keep_unset => Ok(format!("${{{name}{modifier}{word}}}")),
            _ => Err(Problem::Modifier(modifier.to_owned())),
        }
    }

    /// `-`, `+` and `?`.
    fn choice(&mut self, name: &str, modifier: char, empty_is_unset: bool) -> Result<String, Problem> {
        let (word, _) = self.read_until(Some('}'), false).map_err(|problem| self.at_end_or(Problem::Brace, problem))?;
        let value = self.value(name);
        if value.is_none() && self.lexer.keep_unset {
            let colon = if empty_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let is_unset = value.is_none();
        let value = value.filter(|value| !(empty_is_unset && value.is_empty()));
        match (modifier, value) {
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            ('-', None) => Ok(word),
            (_, None) => {
                let message = match (word.is_empty(), is_unset) {
                    (false, _) => word,
                    (true, true) => "is not allowed to be unset".to_owned(),
                    (true, false) => "is not allowed to be empty".to_owned(),
                };
                Err(Problem::Required { name: name.to_owned(), message })
            }
        }
    }

    /// `#` and `%`, single or double.
    fn trimmed(&mut self, name: &str, modifier: char) -> Result<String, Problem> {
        let (word, _) = self.read_until(Some('}'), true).map_err(|problem| self.at_end_or(Problem::Brace, problem))?;
        let value = match self.value(name) {
            None if self.lexer.keep_unset => return Ok(format!("${{{name}{modifier}{word}}}")),
            value => value.unwrap_or_default(),
        };
        let (pattern, star) = match word.strip_prefix(modifier) {
            Some(pattern) => (pattern, Star::Longest),
            None => (word.as_str(), Star::Shortest),
        };
        if modifier == '#' { without_prefix(&value, pattern, star) } else { without_suffix(&value, pattern, star) }
    }

    /// `/`, single or double.
    fn replaced(&mut self, name: &str) -> Result<String, Problem> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let (pattern, _) =
            self.read_until(Some('/'), true).map_err(|problem| self.at_end_or(Problem::Slash, problem))?;
        let (replacement, _) =
            self.read_until(Some('}'), true).map_err(|problem| self.at_end_or(Problem::Brace, problem))?;
        match self.value(name) {
            None if self.lexer.keep_unset => Ok(format!("${{{name}/{pattern}/{replacement}}}")),
            value => replaced(&value.unwrap_or_default(), &pattern, &replacement, all),
        }
    }

    /// What is missing, if the text ended; else what was wrong before.
    fn at_end_or(&mut self, missing: Problem, problem: Problem) -> Problem {
        if problem != Problem::Depth && self.chars.peek().is_none() { missing } else { problem }
    }

    /// A name, the digits of a position, or one of the shell's special parameters; empty if none is there.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(c) if c.is_ascii_digit() => {
                while let Some(c) = self.chars.next_if(char::is_ascii_digit) {
                    name.push(c);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.chars.next()),
            _ => {
                while let Some(c) = self.chars.next_if(|&c| c.is_alphanumeric() || c == '_') {
                    name.push(c);
                }
            }
        }
        name
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name);
        let list = if value.is_some() { &mut self.uses.matched } else { &mut self.uses.unmatched };
        list.insert(name.to_owned());
        value.map(|value| value.into_owned())
    }
}

//! Words as a shell reads them: quotes, escapes, and `$variables`.
//!
//! [`Lexer`] is the reader, with the switches that BuildKit's has; [`Expander`] is what instructions are given: a lexer, the
//! variables, and notes of which of them were asked for. Modifiers (`:-`, `-`, `:+`, `+`, `:?`, `?`, `#`, `##`, `%`, `%%`, `/`, `//`)
//! may contain further variables. A value is never expanded again, so that expansion ends.

mod error;
mod lexer;
mod pattern;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use error::{ExpandError, Problem};
pub use lexer::{Expanded, Lexer, Uses};

use crate::source::Escape;

/// The variables that are set.
pub trait Variables {
    /// The value of a variable, or `None` if it is not set.
    fn get(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// No variable at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nothing;

impl Variables for Nothing {
    fn get(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

impl Variables for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

impl Variables for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

/// Pairs in the order in which they were set: the last one counts.
impl Variables for [(String, String)] {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let pair = self.iter().rev().find(|(key, _)| key == name);
        pair.map(|(_, value)| Cow::Borrowed(value.as_str()))
    }
}

/// Expands the fields of instructions, and remembers which variables they use.
pub struct Expander<'v> {
    lexer: Lexer,
    variables: &'v dyn Variables,
    /// Variables that were used and are set.
    pub matched: BTreeSet<String>,
    /// Variables that were used and are not set: once for each word that uses them, in the order of the words.
    pub unmatched: Vec<String>,
}

impl<'v> Expander<'v> {
    /// An expander for words of a Dockerfile with this escape character.
    pub fn new(escape: Escape, variables: &'v dyn Variables) -> Self {
        Expander { lexer: Lexer::new(escape), variables, matched: BTreeSet::new(), unmatched: Vec::new() }
    }

    /// One word: blanks in it stay.
    ///
    /// # Errors
    /// An open quote, a substitution that makes no sense, a variable that `:?` demands.
    pub fn word(&mut self, word: &str) -> Result<String, ExpandError> {
        Ok(self.process(self.lexer, word)?.word)
    }

    /// The words of a text, separated by blanks; blanks of a variable's value separate too, unless the variable is quoted.
    ///
    /// # Errors
    /// As [`Expander::word`].
    pub fn words(&mut self, text: &str) -> Result<Vec<String>, ExpandError> {
        Ok(self.process(self.lexer, text)?.words)
    }

    /// The text of a heredoc: quotes are ordinary characters there, and the escape character is `\` whatever the file's is.
    ///
    /// # Errors
    /// As [`Expander::word`].
    pub fn document(&mut self, text: &str) -> Result<String, ExpandError> {
        let lexer = Lexer { skip_quotes: true, ..Lexer::new(Escape::Backslash) };
        Ok(self.process(lexer, text)?.word)
    }

    fn process(&mut self, lexer: Lexer, text: &str) -> Result<Expanded, ExpandError> {
        let mut uses = Uses::default();
        let expanded = lexer.process(text, self.variables, &mut uses);
        self.matched.append(&mut uses.matched);
        self.unmatched.extend(uses.unmatched);
        expanded
    }

    pub(crate) fn in_place(&mut self, word: &mut String) -> Result<(), ExpandError> {
        *word = self.word(word)?;
        Ok(())
    }

    /// Each on its own: as many come out as went in.
    pub(crate) fn each_in_place(&mut self, words: &mut [String]) -> Result<(), ExpandError> {
        words.iter_mut().try_for_each(|word| self.in_place(word))
    }

    /// Each may become several words, or none.
    pub(crate) fn words_in_place(&mut self, words: &mut Vec<String>) -> Result<(), ExpandError> {
        let mut all = Vec::with_capacity(words.len());
        for word in words.iter() {
            all.append(&mut self.words(word)?);
        }
        *words = all;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! `.dockerignore`: which files of a context are left out.
//!
//! The last pattern that matches decides; one with `!` takes back what others left out. A pattern that matches a directory
//! matches all that is in it. Patterns are as in [`Glob`], with `**` for any number of directories.

use std::str::FromStr;

use crate::glob::{BadPattern, Glob, Stars, clean};

/// The name of the file, beside the Dockerfile's own `NAME.dockerignore`, which comes first.
pub const FILE_NAME: &str = ".dockerignore";

/// Patterns that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// One that is no pattern.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// `!` and nothing more.
    #[error("illegal exclusion pattern: \"!\"")]
    Nothing,
}

/// Reads the file: the patterns, cleaned, without comments and empty lines. A slash at the beginning means nothing.
pub fn read(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
    let pattern = |line: &str| {
        let (sign, pattern) = line.strip_prefix('!').map_or(("", line), |pattern| ("!", pattern.trim()));
        if pattern.is_empty() {
            return sign.to_owned();
        }
        let pattern = clean(pattern);
        format!("{sign}{}", pattern.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&pattern))
    };
    lines.map(pattern).collect()
}

/// A list of patterns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matcher {
    patterns: Vec<Pattern>,
}

/// One pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    is_exception: bool,
    glob: Glob,
}

/// Which patterns a directory matched, for what is below it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matches(Vec<bool>);

impl Pattern {
    /// The pattern without `!`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it takes back.
    pub fn is_exception(&self) -> bool {
        self.is_exception
    }

    /// Whether something below `directory` could match.
    fn may_match_below(&self, directory: &str) -> bool {
        let mut segments = self.text.split('/');
        for name in directory.split('/') {
            match segments.next() {
                Some(segment) if segment.contains("**") => return true,
                Some(segment) if Glob::new(segment, Stars::Plain).is_ok_and(|glob| !glob.matches(name)) => {
                    return false;
                }
                // Classes may have a slash in them: a segment that is no pattern by itself is not decided on.
                Some(_) => {}
                None => return false,
            }
        }
        segments.next().is_some()
    }
}

impl FromStr for Pattern {
    type Err = IgnoreError;

    fn from_str(text: &str) -> Result<Self, IgnoreError> {
        let cleaned = clean(text.trim());
        let (text, is_exception) = match cleaned.strip_prefix('!') {
            Some("") => return Err(IgnoreError::Nothing),
            Some(text) => (text, true),
            None => (cleaned.as_str(), false),
        };
        Ok(Pattern { text: text.to_owned(), is_exception, glob: Glob::new(text, Stars::Directories)? })
    }
}

impl Matcher {
    /// Compiles patterns, as [`read`] returns them or as `--exclude` gives them. Empty ones are passed over.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Matcher, IgnoreError> {
        let patterns = patterns.iter().map(|pattern| pattern.as_ref().trim()).filter(|pattern| !pattern.is_empty());
        Ok(Matcher { patterns: patterns.map(str::parse).collect::<Result<_, _>>()? })
    }

    /// The patterns in their order.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether a path below the context is left out, by itself or with a directory above it.
    pub fn matches(&self, path: &str) -> bool {
        self.decide(|pattern| pattern.glob.matches(path) || parents(path).any(|parent| pattern.glob.matches(parent)))
    }

    /// Whether a path itself is left out, whatever is above it.
    pub fn matches_exactly(&self, path: &str) -> bool {
        self.decide(|pattern| pattern.glob.matches(path))
    }

    /// The same for a walk: `above` is what the directory around `path` gave, or `None` at the top.
    ///
    /// It differs from [`Matcher::matches`] in one point, as in moby: a pattern that could not change what became of the directory
    /// was not asked, and so is not taken as matching for what is below it (`a`, `!a/b`, `a` leaves out all of `a` there, and
    /// keeps `a/b` here). Contexts are walked, so that this is what users know.
    pub fn matches_below(&self, path: &str, above: Option<&Matches>) -> (bool, Matches) {
        let mut is_out = false;
        let matches = self.patterns.iter().enumerate().map(|(index, pattern)| {
            let is_above = above.and_then(|above| above.0.get(index)).copied().unwrap_or_default();
            // What can't change the outcome is not looked at; the directory's own children ask again.
            let found = is_above || (pattern.is_exception == is_out && pattern.glob.matches(path));
            if found {
                is_out = !pattern.is_exception;
            }
            found
        });
        let matches = Matches(matches.collect());
        (is_out, matches)
    }

    /// Whether nothing below a directory that is left out can come back: it need not be read.
    pub fn is_closed(&self, directory: &str) -> bool {
        !self.patterns.iter().any(|pattern| pattern.is_exception && pattern.may_match_below(directory))
    }

    /// Whether there are patterns with `!`.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(Pattern::is_exception)
    }

    fn decide(&self, matches: impl Fn(&Pattern) -> bool) -> bool {
        let mut is_out = false;
        for pattern in &self.patterns {
            if pattern.is_exception == is_out && matches(pattern) {
                is_out = !pattern.is_exception;
            }
        }
        is_out
    }
}

/// The directories around a path, from the top.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).filter(|parent| !parent.is_empty())
}

#[cfg(test)]
mod tests;

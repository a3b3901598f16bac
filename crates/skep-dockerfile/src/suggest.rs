//! "Did you mean": the nearest of the words that would have been right.

use std::fmt;

/// Words that differ in more letters than this are not meant.
const FARTHEST: usize = 2;

/// The end of an error's text, ` (did you mean X?)` or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hint(Option<String>);

impl From<Option<String>> for Hint {
    fn from(word: Option<String>) -> Self {
        Hint(word)
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |word| write!(f, " (did you mean {word}?)"))
    }
}

/// The nearest of `options`, the first of equally near ones; none if `word` is among them, because then something else is wrong.
pub fn suggest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for option in options {
        if option == word {
            return None;
        }
        let distance = distance(word, option);
        if distance <= FARTHEST && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, option));
        }
    }
    best.map(|(_, option)| option.to_owned())
}

/// How many letters have to be added, taken away or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(suggest("FRMO", ["ADD", "FROM", "RUN"]).as_deref(), Some("FROM"));
        assert_eq!(suggest("mout", ["mount", "network"]).as_deref(), Some("mount"));
        assert_eq!(suggest("mount", ["mout", "mount"]), None, "the word itself is right");
        assert_eq!(suggest("something", ["mount"]), None);
    }
}

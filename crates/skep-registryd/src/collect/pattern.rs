//! Patterns for names: `*` stands for anything within a part, `**` for anything, `?` for one letter.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(String);

impl Pattern {
    #[cfg(test)]
    pub(crate) fn new(text: &str) -> Self {
        Pattern(text.to_owned())
    }

    /// Whether all of `name` is of this pattern.
    pub(crate) fn matches(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.as_bytes())
    }
}

/// What follows a star in the pattern, and how much of the name it has not taken.
type Star = Option<(usize, usize)>;

/// Each star remembers where it stands; when what follows does not fit, the last star takes a letter more. A `*` that would have to
/// take a slash gives way to the last `**` before it. So the work is at most the product of both lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let (mut one, mut any): (Star, Star) = (None, None);
    loop {
        if pattern[p..].starts_with(b"**") {
            p += 2;
            (any, one) = (Some((p, n)), None);
            continue;
        }
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            one = Some((p, n));
            continue;
        }
        let fits = match (pattern.get(p), name.get(n)) {
            (None, None) => return true,
            (Some(b'?'), Some(letter)) => *letter != b'/',
            (Some(wanted), Some(letter)) => wanted == letter,
            _ => false,
        };
        if fits {
            (p, n) = (p + 1, n + 1);
            continue;
        }
        match (one, any) {
            (Some((after, taken)), _) if name.get(taken).is_some_and(|letter| *letter != b'/') => {
                one = Some((after, taken + 1));
                (p, n) = (after, taken + 1);
            }
            (_, Some((after, taken))) if taken < name.len() => {
                (any, one) = (Some((after, taken + 1)), None);
                (p, n) = (after, taken + 1);
            }
            _ => return false,
        }
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Pattern)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_stay_within_a_part_unless_there_are_two() {
        for (pattern, name, expected) in [
            ("team/*", "team/app", true),
            ("team/*", "team/app/web", false),
            ("team/**", "team/app/web", true),
            ("**", "a/b/c", true),
            ("*", "a", true),
            ("*", "a/b", false),
            ("**/web", "a/b/web", true),
            ("**/web", "web", false),
            ("v*.?", "v1.22.3", true),
            ("v?", "v10", false),
            ("a*b*c", "aXbYbZc", true),
            ("**/x*/y", "a/xb/c/xd/y", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_end_in_time() {
        let pattern = "*a".repeat(200) + "b";
        assert!(!Pattern::new(&pattern).matches(&"a".repeat(5000)));
        assert!(!Pattern::new(&pattern.replace('*', "**")).matches(&"a".repeat(5000)));
    }

    proptest! {
        #[test]
        fn every_name_is_of_its_own_pattern(name in "[a-z/.-]{0,30}", other in "[a-z*?/]{0,20}") {
            prop_assert!(Pattern::new(&name).matches(&name));
            prop_assert!(Pattern::new("**").matches(&name));
            let _ = Pattern::new(&other).matches(&name);
        }
    }
}

//! Which tags stay: rules per repository, from a file.
//!
//! ```json
//! {"rules": [
//!   {"repositories": "team/**", "keepMatching": ["v*", "latest"], "keepLast": 10, "maxAge": "720h"},
//!   {"repositories": "cache/*", "maxAge": "48h"}
//! ]}
//! ```
//! The first rule whose pattern fits a repository counts for it; without one all tags stay. A tag stays if anything in its rule
//! keeps it: its name matches, it is among the last that were set, or it was set within the age. A rule that says nothing
//! keeps all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::collect::Dated;
use crate::collect::pattern::Pattern;
use crate::content::tables::Moment;
use crate::name::{RepositoryName, Tag};

/// Rules; without any, everything stays.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    rules: Arc<[Rule]>,
    /// Where they were read.
    file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    repositories: Pattern,
    #[serde(default)]
    keep_matching: Vec<Pattern>,
    keep_last: Option<usize>,
    #[serde(default, deserialize_with = "age")]
    max_age: Option<Duration>,
}

fn age<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    skep_types::parse_go_duration(&text).map(Some).map_err(serde::de::Error::custom)
}

/// Why rules can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The file can't be read.
    #[error("retention rules {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It holds no rules.
    #[error("retention rules {path}: {source}", path = path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl Retention {
    /// Reads a file of rules.
    pub fn read(path: &Path) -> Result<Self, RetentionError> {
        let bytes = std::fs::read(path).map_err(|source| RetentionError::File { path: path.to_owned(), source })?;
        let read = Self::parse(&bytes).map_err(|source| RetentionError::Form { path: path.to_owned(), source })?;
        Ok(Retention { file: Some(path.to_owned()), ..read })
    }

    /// What their file holds now; the same if they are of no file.
    pub(crate) fn read_again(&self) -> Result<Self, RetentionError> {
        self.file.as_deref().map_or_else(|| Ok(self.clone()), Self::read)
    }

    fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice::<File>(bytes).map(|file| Retention { rules: file.rules.into(), file: None })
    }

    /// The tags of a repository that no rule keeps.
    pub(crate) fn dropped(&self, repository: &RepositoryName, mut tags: Vec<Dated>, now: Moment) -> Vec<Tag> {
        let Some(rule) = self.rules.iter().find(|rule| rule.repositories.matches(repository.as_str())) else {
            return Vec::new();
        };
        if rule.keep_matching.is_empty() && rule.keep_last.is_none() && rule.max_age.is_none() {
            return Vec::new();
        }
        let oldest =
            rule.max_age.map(|age| now.saturating_sub(Moment::try_from(age.as_millis()).unwrap_or(Moment::MAX)));
        // The newest first; of those set at the same time the last in order.
        tags.sort_by(|a, b| (b.1, &b.0).cmp(&(a.1, &a.0)));
        tags.retain(|(tag, _)| !rule.keep_matching.iter().any(|pattern| pattern.matches(tag.as_str())));
        let beyond = tags.into_iter().skip(rule.keep_last.unwrap_or(0));
        beyond.filter(|(_, set)| oldest.is_none_or(|oldest| *set < oldest)).map(|(tag, _)| tag).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Moment = 3_600_000;

    fn dropped(rules: &str, repository: &str) -> Vec<String> {
        let retention = Retention::parse(rules.as_bytes()).expect("rules");
        // In hours of age.
        let tags = [("v1", 50), ("v2", 40), ("nightly-1", 30), ("nightly-2", 20), ("nightly-3", 10), ("latest", 1)];
        let tags = tags.map(|(tag, age)| (tag.parse().expect("a tag"), 100 * HOUR - age * HOUR)).into();
        let dropped = retention.dropped(&repository.parse().expect("a name"), tags, 100 * HOUR);
        let mut dropped: Vec<String> = dropped.iter().map(Tag::to_string).collect();
        dropped.sort_unstable();
        dropped
    }

    #[test]
    fn a_tag_stays_if_anything_keeps_it() {
        let rule = |rest: &str| format!(r#"{{"rules": [{{"repositories": "a/*", {rest}}}]}}"#);
        assert_eq!(dropped(&rule(r#""keepLast": 3"#), "a/b"), ["nightly-1", "v1", "v2"]);
        assert_eq!(
            dropped(&rule(r#""keepLast": 1, "keepMatching": ["v*", "latest"]"#), "a/b"),
            ["nightly-1", "nightly-2"]
        );
        assert_eq!(dropped(&rule(r#""maxAge": "25h""#), "a/b"), ["nightly-1", "v1", "v2"]);
        assert_eq!(dropped(&rule(r#""maxAge": "35h", "keepLast": 5"#), "a/b"), ["v1"]);
        assert_eq!(dropped(&rule(r#""keepMatching": ["v?", "nightly-*"]"#), "a/b"), ["latest"]);
        assert_eq!(dropped(&rule(r#""keepLast": 0"#), "other"), [""; 0]);
        assert_eq!(dropped(r#"{"rules": [{"repositories": "**"}]}"#, "a/b"), [""; 0]);
        let first = r#"{"rules": [{"repositories": "a/b"}, {"repositories": "**", "keepLast": 0}]}"#;
        assert_eq!((dropped(first, "a/b").len(), dropped(first, "a/c").len()), (0, 6));
    }

    #[test]
    fn wrong_rules_are_refused() {
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"rules": [{}]}"#,
            r#"{"rules": [{"repositories": "a", "maxAge": "soon"}]}"#,
            r#"{"rules": [{"repositories": "a", "keeplast": 3}]}"#,
            r#"{"rules": [{"repositories": "a", "keepLast": -1}]}"#,
        ] {
            assert!(Retention::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

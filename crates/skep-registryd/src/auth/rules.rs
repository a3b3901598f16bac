//! What users may do, from a file.
//!
//! ```json
//! {"rules": [
//!   {"users": ["*"], "repositories": ["public/**"], "actions": ["pull"]},
//!   {"users": ["ana", "build"], "repositories": ["team/*"], "actions": ["pull", "push", "delete"]}
//! ]}
//! ```
//! What any rule allows is allowed, all else is not. `*` is every user, `anonymous` who is none.

use std::path::Path;

use serde::Deserialize;

use crate::auth::Action;
use crate::auth::watched::{FileError, Watched};
use crate::collect::pattern::Pattern;
use crate::name::RepositoryName;

/// A file of rules, read again when it changes.
#[derive(Debug)]
pub struct Rules(Watched<File>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    users: Vec<String>,
    repositories: Vec<Pattern>,
    actions: Vec<ActionName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ActionName {
    Pull,
    Push,
    Delete,
}

impl Rules {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Watched::open(path, |bytes| serde_json::from_slice(bytes).map_err(|error| error.to_string())).map(Rules)
    }

    pub(crate) fn read_again(&self) -> Result<(), FileError> {
        self.0.read_again()
    }

    /// Whether a user, or nobody, may do this there.
    pub(crate) fn allow(&self, user: Option<&str>, name: &RepositoryName, action: Action) -> bool {
        let is_user = |listed: &String| match user {
            Some(user) => listed == "*" || (listed == user && user != "anonymous"),
            None => listed == "anonymous",
        };
        let wanted = match action {
            Action::Pull => ActionName::Pull,
            Action::Push => ActionName::Push,
            Action::Delete => ActionName::Delete,
        };
        self.0.get().rules.iter().any(|rule| {
            rule.actions.contains(&wanted)
                && rule.users.iter().any(is_user)
                && rule.repositories.iter().any(|pattern| pattern.matches(name.as_str()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_rule_allows_is_not_allowed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("rules.json");
        let text = r#"{"rules": [
            {"users": ["*"], "repositories": ["public/**"], "actions": ["pull"]},
            {"users": ["ana"], "repositories": ["team/*"], "actions": ["pull", "push"]},
            {"users": ["anonymous"], "repositories": ["open"], "actions": ["pull"]}
        ]}"#;
        std::fs::write(&path, text).expect("written");
        let rules = Rules::open(&path).expect("rules");
        let may = |user, name: &str, action| rules.allow(user, &name.parse().expect("a name"), action);
        assert!(may(Some("bob"), "public/a/b", Action::Pull) && may(Some("ana"), "team/x", Action::Push));
        assert!(may(None, "open", Action::Pull));
        assert!(!may(Some("bob"), "public/a", Action::Push) && !may(Some("bob"), "team/x", Action::Pull));
        assert!(!may(Some("ana"), "team/x", Action::Delete) && !may(Some("ana"), "team/x/y", Action::Pull));
        assert!(!may(None, "public/a", Action::Pull) && !may(Some("anonymous"), "open", Action::Pull));
        std::fs::write(&path, r#"{"rules": [{"users": ["*"]}]}"#).expect("written");
        assert!(Rules::open(&path).is_err());
    }
}

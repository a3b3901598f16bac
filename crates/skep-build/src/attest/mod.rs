//! Statements about an image: how it was made, and what is in it.
//!
//! Neither holds a secret: secrets and agents appear by name, URLs without name and password.

mod packages;
mod provenance;

use crate::graph::Names;

pub(crate) use packages::{Sbom, read_packages};
pub(crate) use provenance::{Provenance, materials};

/// What is asked for of a kind of attestation; none if it is switched off.
pub(crate) fn wanted<'a>(all: &'a std::collections::BTreeMap<String, Names>, kind: &str) -> Option<&'a Names> {
    all.get(kind).filter(|attributes| !attributes.get("disabled").is_some_and(|value| is_true(value)))
}

/// What Go's `strconv.ParseBool` takes for yes.
pub(crate) fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// A text for people, in which no URL has a password; of web addresses the name before it goes too, for it may be a token.
pub fn without_password(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let is_web = rest[..at].ends_with("http") || rest[..at].ends_with("https");
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| matches!(c, '/' | '?' | '#' | '"' | '\'') || c.is_whitespace());
        let authority = &after[..end.unwrap_or(after.len())];
        rest = match authority.rsplit_once('@') {
            Some((login, _)) => {
                let user = login.split_once(':').map_or(login, |(user, _)| user);
                if !is_web {
                    out.push_str(user);
                    out.push('@');
                }
                &after[login.len() + 1..]
            }
            None => after,
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("https://me:secret@host/x.git#a@b"), "https://host/x.git#a@b");
        assert_eq!(without_password("https://token@host?x"), "https://host?x");
        assert_eq!(without_password("https://host/a@b"), "https://host/a@b");
        assert_eq!(without_password("ssh://git@host/x"), "ssh://git@host/x");
        assert_eq!(without_password("ssh://git:secret@host/x"), "ssh://git@host/x");
        let text = "ADD https://a:b@one/x \"http://c@two\" /y@z https://three";
        assert_eq!(without_password(text), "ADD https://one/x \"http://two\" /y@z https://three");
    }
}

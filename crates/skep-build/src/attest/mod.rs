//! Statements about an image: how it was made, and what is in it.
//!
//! Neither holds a secret: secrets and agents appear by name, URLs without name and password.

mod packages;
mod provenance;

use crate::error::{BuildError, Result};
use crate::graph::Names;

pub(crate) use packages::{Sbom, read_packages};
pub(crate) use provenance::{Provenance, materials};

/// What is asked for of a kind of attestation; none if it is switched off.
pub(crate) fn wanted<'a>(all: &'a std::collections::BTreeMap<String, Names>, kind: &str) -> Option<&'a Names> {
    all.get(kind).filter(|attributes| !attributes.get("disabled").is_some_and(|value| is_true(value)))
}

/// Refuses attestations that are not made.
///
/// # Errors
/// A kind, a generator, a mode or a version that there is not.
pub(crate) fn check(all: &std::collections::BTreeMap<String, Names>) -> Result<()> {
    for (kind, attributes) in all {
        let known: &[&str] = match kind.as_str() {
            "provenance" => {
                &["type", "mode", "version", "builder-id", "filename", "reproducible", "inline-only", "disabled"]
            }
            "sbom" => &["type", "generator", "inline-only", "disabled"],
            other => return Err(BuildError::invalid(format!("unknown attestation type {other:?}"))),
        };
        let says_nothing = |name: &str| name.starts_with("vcs:");
        if let Some(name) = attributes.keys().find(|name| !known.contains(&name.as_str()) && !says_nothing(name)) {
            return Err(BuildError::invalid(format!("the attestation {kind} has no option {name:?}")));
        }
        let bad = |name: &str, good: &[&str]| {
            attributes.get(name).filter(|value| !value.is_empty() && !good.contains(&value.as_str())).cloned()
        };
        if let Some(mode) = bad("mode", &["min", "max"]) {
            return Err(BuildError::invalid(format!("invalid mode {mode:?}")));
        }
        if let Some(version) = bad("version", &["v0.2", "v1"]) {
            return Err(BuildError::invalid(format!("invalid SLSA provenance version {version:?}")));
        }
        let scanner = attributes.get("generator").filter(|name| !name.is_empty() && !is_own_scanner(name));
        if let Some(name) = scanner {
            let text = format!("the generator {name} is not run: skep lists packages itself");
            return Err(BuildError::new(skep_types::ErrorKind::NotImplemented, text));
        }
    }
    Ok(())
}

/// Whether a generator is the usual one, whose work is done here.
fn is_own_scanner(name: &str) -> bool {
    let reference = name.parse::<skep_types::Reference>();
    reference.is_ok_and(|reference| reference.familiar_name() == "docker/buildkit-syft-scanner")
}

/// Whether it goes into images only.
pub(crate) fn is_inline_only(attributes: &Names) -> bool {
    attributes.get("inline-only").is_some_and(|value| is_true(value))
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
    fn attestations_that_are_not_made_are_refused_by_name() {
        let check = |kind: &str, pairs: &[(&str, &str)]| {
            let attributes = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            super::check(&[(kind.to_owned(), attributes)].into()).err().map(|error| error.message)
        };
        assert_eq!(check("provenance", &[("mode", "max"), ("version", "v1"), ("vcs:source", "x")]), None);
        assert_eq!(check("sbom", &[("generator", "docker.io/docker/buildkit-syft-scanner:stable-1")]), None);
        for (kind, name, value, text) in [
            ("vex", "a", "b", "unknown attestation type \"vex\""),
            ("provenance", "mode", "most", "invalid mode \"most\""),
            ("provenance", "version", "v2", "invalid SLSA provenance version \"v2\""),
            ("sbom", "scan", "x", "the attestation sbom has no option \"scan\""),
            ("sbom", "generator", "x/y", "the generator x/y is not run: skep lists packages itself"),
        ] {
            assert_eq!(check(kind, &[(name, value)]).as_deref(), Some(text));
        }
    }

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

//! Image references, as `docker pull` reads them.
//!
//! ```text
//! reference = [ registry "/" ] path [ ":" tag ] [ "@" digest ]
//! ```
//! The first part names a registry when it holds a dot, a colon or an upper-case letter, or is `localhost`; else the
//! image lives on Docker Hub, below `library/` when its path has a single part. Source: the grammar of the
//! distribution project.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Digest;

const HUB: &str = "docker.io";

/// A parsed and normalised image reference.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// What a reference picks out of its repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// A tag, `latest` when none was written.
    Tag(String),
    /// A digest; it wins over a tag beside it.
    Digest(Digest),
}

/// Why a text is not a reference. The texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// Has capital letters; whatever else is wrong with it.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// 64 hexadecimal digits alone would be an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// Registry and path are longer than 255 letters.
    #[error("invalid reference format: repository name must not be more than 255 characters")]
    TooLong,
    /// The digest is not one.
    #[error("invalid reference format: {0}")]
    Digest(#[from] crate::DigestError),
}

impl Reference {
    /// The registry's host and port; `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry, with `library/` where it was implied.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was written.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What to ask the registry for.
    pub fn selector(&self) -> Selector {
        match (self.digest, &self.tag) {
            (Some(digest), _) => Selector::Digest(digest),
            (None, Some(tag)) => Selector::Tag(tag.clone()),
            (None, None) => Selector::Tag("latest".to_owned()),
        }
    }

    /// The same repository with `tag`, without a digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Format);
        }
        Ok(Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with `digest`, without a tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same reference with the tag `latest` if it has neither tag nor digest.
    pub fn or_latest(&self) -> Self {
        let tag = match (&self.tag, self.digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.clone(),
        };
        Reference { tag, ..self.clone() }
    }

    /// The repository as people write it: without `docker.io/` and `library/`.
    pub fn familiar_name(&self) -> String {
        if self.registry != HUB {
            return format!("{}/{}", self.registry, self.path);
        }
        match self.path.strip_prefix("library/") {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// Name, tag and digest as people write them.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    /// The repository in full: `docker.io/library/busybox`.
    pub fn canonical_name(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    fn suffixed(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && crate::Digest::from_hex(text).is_ok() {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                // What is too short to be a digest of any kind is not taken for a wrong one.
                if digest.split_once(':').is_none_or(|(_, hex)| hex.len() < 32) {
                    return Err(ReferenceError::Format);
                }
                (rest, Some(digest.parse::<Digest>()?))
            }
            None => (text, None),
        };
        let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_end..].find(':') {
            Some(colon) => (&rest[..name_end + colon], Some(&rest[name_end + colon + 1..])),
            None => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Format);
        }
        let (registry, path) = split_registry(name);
        if !is_registry(registry) {
            return Err(ReferenceError::Format);
        }
        if !is_path(path) {
            return Err(if path.contains(|c: char| c.is_ascii_uppercase()) {
                ReferenceError::Uppercase(in_library(registry, path))
            } else {
                ReferenceError::Format
            });
        }
        let registry = if registry == "index.docker.io" { HUB } else { registry };
        let path = in_library(registry, path);
        if registry.len() + 1 + path.len() > 255 {
            return Err(ReferenceError::TooLong);
        }
        Ok(Reference { registry: registry.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }
}

fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|c| c.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (HUB, name),
    }
}

/// The hub's own images are written without the `library/` that they are in.
fn in_library(registry: &str, path: &str) -> String {
    if registry == HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() }
}

fn is_tag(tag: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    tag.len() <= 128 && tag.bytes().next().is_some_and(word) && tag.bytes().all(|c| word(c) || matches!(c, b'.' | b'-'))
}

/// host = label *( "." label ) [ ":" port ], or an IPv6 address in brackets.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, port)) if port.starts_with(':') => (address, Some(&port[1..])),
            _ => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port_good = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()));
    let host_good = if text.starts_with('[') {
        host.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        })
    };
    port_good && host_good
}

/// path = component *( "/" component ); component = alnum *( separator alnum ), separator = "." / "_" / "__" / *"-".
fn is_path(path: &str) -> bool {
    path.split('/').all(|component| {
        let alnum = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let mut bytes = component.bytes().peekable();
        if !bytes.peek().is_some_and(|&c| alnum(c)) {
            return false;
        }
        let mut separator = String::new();
        for c in bytes {
            if alnum(c) {
                let fits = matches!(separator.as_str(), "" | "." | "_" | "__") || separator.bytes().all(|c| c == b'-');
                if !fits {
                    return false;
                }
                separator.clear();
            } else if matches!(c, b'.' | b'_' | b'-') {
                separator.push(char::from(c));
            } else {
                return false;
            }
        }
        separator.is_empty()
    })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.canonical_name()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Reference {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn names_are_normalised_as_docker_does() {
        for (text, canonical, familiar) in [
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("user/app", "docker.io/user/app", "user/app"),
            ("index.docker.io/user/app", "docker.io/user/app", "user/app"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t", "localhost:5000/a/b:t"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a", "127.0.0.1:5000/a"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            ("REG/app", "REG/app", "REG/app"),
            ("a__b/c--d.e", "docker.io/a__b/c--d.e", "a__b/c--d.e"),
        ] {
            assert_eq!(parse(text).to_string(), canonical);
            assert_eq!(parse(text).familiar(), familiar);
        }
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let reference = parse(&format!("busybox:1@{digest}"));
        assert_eq!(reference.selector(), Selector::Digest(digest.parse().expect("a digest")));
        assert_eq!(parse("busybox").selector(), Selector::Tag("latest".to_owned()));
    }

    #[test]
    fn bad_references_get_dockers_words() {
        for bad in ["", ":", "a:", "-a", "a..b", "a/", "/a", "a:b:c", "a b", "a___b", "http://x/y", "a@sha256:12"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad} was accepted");
        }
        assert_eq!(
            "Busybox".parse::<Reference>().expect_err("upper case").to_string(),
            "invalid reference format: repository name (library/Busybox) must be lowercase"
        );
        assert!(matches!("a".repeat(64).parse::<Reference>(), Err(ReferenceError::LooksLikeId(_))));
    }
}

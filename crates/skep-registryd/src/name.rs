//! Names from outside, as types: who holds one need not check it again.

use std::fmt;
use std::str::FromStr;

use crate::digest::ContentDigest;

/// Longest name of a repository that is taken; clients leave room for a host in front of it.
const NAME_LIMIT: usize = 255;

/// A text does not follow the grammar of distribution names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Of repositories.
    #[error("invalid repository name")]
    Repository,
    /// Of tags.
    #[error("invalid tag name")]
    Tag,
    /// Of uploads.
    #[error("no such upload")]
    Upload,
}

macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// The name of a repository: lower-case parts between slashes, at most 255 letters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(String);
text!(RepositoryName);

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = text.len() <= NAME_LIMIT && text.split('/').all(is_component);
        if good { Ok(RepositoryName(text.to_owned())) } else { Err(NameError::Repository) }
    }
}

/// alnum *( separator alnum ), where a separator is `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let alnum = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    let separators = bytes.split(|&c| alnum(c)).filter(|separator| !separator.is_empty());
    let fits = |separator: &[u8]| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|&c| c == b'-');
    alnum(first) && alnum(last) && separators.into_iter().all(fits)
}

/// The name of a tag: at most 128 letters, digits, `_`, `.` and `-`, the first no `.` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);
text!(Tag);

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let bytes = text.as_bytes();
        let good = (1..=128).contains(&bytes.len())
            && word(bytes[0])
            && bytes.iter().all(|&c| word(c) || matches!(c, b'.' | b'-'));
        if good { Ok(Tag(text.to_owned())) } else { Err(NameError::Tag) }
    }
}

/// What names a manifest within its repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestReference {
    /// Whatever the tag stands for.
    Tag(Tag),
    /// Exactly this one.
    Digest(ContentDigest),
}

impl FromStr for ManifestReference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // A tag holds no colon, so that a digest is none.
        match text.parse() {
            Ok(digest) => Ok(ManifestReference::Digest(digest)),
            Err(_) => text.parse().map(ManifestReference::Tag),
        }
    }
}

/// The name of an upload, which nobody can guess (130 bits).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId(String);
text!(UploadId);

impl UploadId {
    /// A new one.
    pub fn random() -> Self {
        UploadId(skep_fs::atomic::random_name() + &skep_fs::atomic::random_name())
    }
}

impl FromStr for UploadId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = text.len() == 26 && text.bytes().all(|c| matches!(c, b'a'..=b'z' | b'2'..=b'7'));
        if good { Ok(UploadId(text.to_owned())) } else { Err(NameError::Upload) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a", "a/b/c", "a.b", "a_b", "a__b", "a---b", "0/1", &"a".repeat(255)] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", ".a", "a.", "-a", "a/../b", "..", "a b", "a\0", "ä",
            &long,
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
        for good in ["1", "latest", "V1.0-rc_2", "_x"] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", ".x", "-x", "a/b", "a:b", "ü", &"a".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
        let id = UploadId::random();
        assert_eq!(id.as_str().parse(), Ok(id));
        assert!("../../../../etc/passwd0000".parse::<UploadId>().is_err());
    }
}

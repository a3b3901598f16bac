//! Content digests of the two algorithms that a registry has to take (OCI image spec, "Digests").

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256, SHA512};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a digest is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// The usual one.
    Sha256,
    /// The registered alternative.
    Sha512,
}

impl Algorithm {
    /// Its name in a digest.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// The algorithm of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Algorithm::Sha256, Algorithm::Sha512].into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// The digest of some content. Kept as bytes, so that one that was parsed can name a file without further checks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContentDigest {
    /// `sha256:` and 64 digits.
    Sha256([u8; 32]),
    /// `sha512:` and 128 digits.
    Sha512([u8; 64]),
}

/// A text is no digest of a known algorithm, in lower-case digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sha256 or sha512 digest")]
pub struct DigestError;

impl ContentDigest {
    /// The digest of bytes in memory.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// How it was computed.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            ContentDigest::Sha256(_) => Algorithm::Sha256,
            ContentDigest::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The digits without the algorithm.
    pub fn hex(&self) -> String {
        self.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The raw value.
    pub fn bytes(&self) -> &[u8] {
        match self {
            ContentDigest::Sha256(bytes) => bytes,
            ContentDigest::Sha512(bytes) => bytes,
        }
    }
}

impl FromStr for ContentDigest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError)?;
        match Algorithm::named(algorithm).ok_or(DigestError)? {
            Algorithm::Sha256 => decode(hex).map(ContentDigest::Sha256),
            Algorithm::Sha512 => decode(hex).map(ContentDigest::Sha512),
        }
    }
}

fn decode<const N: usize>(hex: &str) -> Result<[u8; N], DigestError> {
    let nibble = |c: u8| match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err(DigestError),
    };
    if hex.len() != N * 2 {
        return Err(DigestError);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(bytes)
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), self.hex())
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ContentDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A digest in the making.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    context: Context,
}

impl Hasher {
    /// Of nothing so far.
    pub fn new(algorithm: Algorithm) -> Self {
        let context = match algorithm {
            Algorithm::Sha256 => Context::new(&SHA256),
            Algorithm::Sha512 => Context::new(&SHA512),
        };
        Hasher { algorithm, context }
    }

    /// Takes further bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// Which digest comes out.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digest of all bytes.
    pub fn finish(self) -> ContentDigest {
        let value = self.context.finish();
        let (mut short, mut long) = ([0; 32], [0; 64]);
        match self.algorithm {
            Algorithm::Sha256 => {
                short.copy_from_slice(value.as_ref());
                ContentDigest::Sha256(short)
            }
            Algorithm::Sha512 => {
                long.copy_from_slice(value.as_ref());
                ContentDigest::Sha512(long)
            }
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_and_written() {
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(ContentDigest::of(Algorithm::Sha256, b"").to_string(), text);
        let long = ContentDigest::of(Algorithm::Sha512, b"abc");
        assert!(long.to_string().starts_with("sha512:ddaf35a193617aba"));
        assert_eq!(long.to_string().parse(), Ok(long));
        for bad in ["", ":", "sha256:", "sha256:../../etc", "sha1:da39a3ee", &text.to_uppercase(), &text[..70]] {
            assert_eq!(bad.parse::<ContentDigest>(), Err(DigestError), "{bad}");
        }
    }
}

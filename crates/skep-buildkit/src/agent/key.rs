//! Private keys in the forms that ssh-keygen and openssl write, and signatures with them.

use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::wire::{Reader, put_integer, put_string, trimmed};

/// The largest file that is read.
const FILE_MAX: u64 = 100 << 10;

/// How OpenSSH's own form begins.
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Flags of a question for a signature with an RSA key.
const SHA256: u32 = 2;
const SHA512: u32 = 4;

/// A key that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read.
    #[error("failed to open {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A passphrase protects it.
    #[error("failed to parse {}: ssh: this private key is passphrase protected", .0.display())]
    Protected(PathBuf),
    /// It is no private key of a kind that is known.
    #[error("failed to parse {}: ssh: no key found", .0.display())]
    NoKey(PathBuf),
}

/// A curve: its key type, its name in ssh, its algorithm, and the size of its numbers in bytes.
type Curve = (&'static str, &'static str, &'static EcdsaSigningAlgorithm, usize);

static CURVES: [Curve; 3] = [
    ("ecdsa-sha2-nistp256", "nistp256", &ECDSA_P256_SHA256_FIXED_SIGNING, 32),
    ("ecdsa-sha2-nistp384", "nistp384", &ECDSA_P384_SHA384_FIXED_SIGNING, 48),
    ("ecdsa-sha2-nistp521", "nistp521", &ECDSA_P521_SHA512_FIXED_SIGNING, 66),
];

enum Signer {
    Ed25519(Ed25519KeyPair),
    Ecdsa(&'static Curve, EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A private key.
pub(super) struct Key {
    /// The public key.
    pub(super) blob: Vec<u8>,
    /// What the user calls it.
    pub(super) comment: String,
    signer: Signer,
}

impl Key {
    pub(super) fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(failed)?.len();
        if length > FILE_MAX {
            return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let (label, bytes) = armoured(&text).ok_or_else(|| KeyError::NoKey(path.to_owned()))?;
        let opened = match label {
            "OPENSSH PRIVATE KEY" if is_protected(&bytes) => None,
            "OPENSSH PRIVATE KEY" => Some(openssh(&bytes)),
            "ENCRYPTED PRIVATE KEY" => None,
            _ if text.contains("ENCRYPTED") => None,
            "RSA PRIVATE KEY" => Some(RsaKeyPair::from_der(&bytes).ok().map(Signer::Rsa)),
            "EC PRIVATE KEY" => Some(ecdsa(|curve| EcdsaKeyPair::from_private_key_der(curve.2, &bytes).ok())),
            "PRIVATE KEY" => Some(pkcs8(&bytes)),
            _ => Some(None),
        };
        let signer = opened.ok_or_else(|| KeyError::Protected(path.to_owned()))?;
        let signer = signer.ok_or_else(|| KeyError::NoKey(path.to_owned()))?;
        Ok(Key { blob: signer.blob(), comment: path.display().to_string(), signer })
    }

    /// A signature; none of a kind that the key can't make.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match &self.signer {
            Signer::Ed25519(key) => {
                put_string(&mut out, b"ssh-ed25519");
                put_string(&mut out, key.sign(data).as_ref());
            }
            Signer::Ecdsa(curve, key) => {
                let both = key.sign(&SystemRandom::new(), data).ok()?;
                let (r, s) = both.as_ref().split_at_checked(curve.3)?;
                let mut numbers = Vec::new();
                put_integer(&mut numbers, r);
                put_integer(&mut numbers, s);
                put_string(&mut out, curve.0.as_bytes());
                put_string(&mut out, &numbers);
            }
            Signer::Rsa(key) => {
                // Without a flag SHA-1 is meant, which no server should take any more.
                let (name, padding) = match flags {
                    flags if flags & SHA512 != 0 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    flags if flags & SHA256 != 0 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &SystemRandom::new(), data, &mut signature).ok()?;
                put_string(&mut out, name.as_bytes());
                put_string(&mut out, &signature);
            }
        }
        Some(out)
    }
}

impl Signer {
    /// The public key as ssh writes it.
    fn blob(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Signer::Ed25519(key) => {
                put_string(&mut out, b"ssh-ed25519");
                put_string(&mut out, key.public_key().as_ref());
            }
            Signer::Ecdsa(curve, key) => {
                put_string(&mut out, curve.0.as_bytes());
                put_string(&mut out, curve.1.as_bytes());
                put_string(&mut out, key.public_key().as_ref());
            }
            Signer::Rsa(key) => {
                put_string(&mut out, b"ssh-rsa");
                let public = key.public_key();
                put_integer(&mut out, public.exponent().big_endian_without_leading_zero());
                put_integer(&mut out, public.modulus().big_endian_without_leading_zero());
            }
        }
        out
    }
}

/// What stands between the lines that begin and end a key, and how it is called there. Headers in between are left out.
fn armoured(text: &str) -> Option<(&str, Vec<u8>)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    let lines = body.lines().map(str::trim).filter(|line| !line.contains(':'));
    Some((label, STANDARD.decode(lines.collect::<String>()).ok()?))
}

fn ecdsa(make: impl Fn(&Curve) -> Option<EcdsaKeyPair>) -> Option<Signer> {
    CURVES.iter().find_map(|curve| make(curve).map(|key| Signer::Ecdsa(curve, key)))
}

fn pkcs8(bytes: &[u8]) -> Option<Signer> {
    let rsa = RsaKeyPair::from_pkcs8(bytes).ok().map(Signer::Rsa);
    let edwards = || Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).ok().map(Signer::Ed25519);
    rsa.or_else(edwards).or_else(|| ecdsa(|curve| EcdsaKeyPair::from_pkcs8(curve.2, bytes).ok()))
}

fn is_protected(bytes: &[u8]) -> bool {
    bytes.strip_prefix(MAGIC).and_then(|rest| Reader(rest).string()).is_some_and(|cipher| cipher != b"none")
}

/// OpenSSH's own form (PROTOCOL.key).
fn openssh(bytes: &[u8]) -> Option<Signer> {
    let mut outer = Reader(bytes.strip_prefix(MAGIC)?);
    let (_cipher, _derivation, _options) = (outer.string()?, outer.string()?, outer.string()?);
    let (_count, _public) = (outer.number()?, outer.string()?);
    let mut inner = Reader(outer.string()?);
    if inner.number()? != inner.number()? {
        return None;
    }
    match inner.string()? {
        b"ssh-ed25519" => {
            let public = inner.string()?;
            let seed = inner.string()?.get(..32)?;
            Ed25519KeyPair::from_seed_and_public_key(seed, public).ok().map(Signer::Ed25519)
        }
        b"ssh-rsa" => rsa(&mut inner),
        kind => {
            let curve = CURVES.iter().find(|curve| curve.0.as_bytes() == kind)?;
            let (_name, point, number) = (inner.string()?, inner.string()?, inner.integer()?);
            let mut secret = vec![0; curve.3.checked_sub(number.len())?];
            secret.extend_from_slice(number);
            let key = EcdsaKeyPair::from_private_key_and_public_key(curve.2, &secret, point).ok()?;
            Some(Signer::Ecdsa(curve, key))
        }
    }
}

/// The numbers of an RSA key, of which two can be computed from the others.
fn rsa(fields: &mut Reader<'_>) -> Option<Signer> {
    let (n, e, d) = (fields.integer()?, fields.integer()?, fields.integer()?);
    let (inverse, p, q) = (fields.integer()?, fields.integer()?, fields.integer()?);
    let (of_p, of_q) = (remainder_below(d, p)?, remainder_below(d, q)?);
    let mut content = Vec::new();
    for number in [&[][..], n, e, d, p, q, &of_p, &of_q, inverse] {
        let number = trimmed(number);
        let zero = number.first().is_none_or(|byte| *byte >= 0x80);
        put_der(&mut content, 0x02, &[if zero { &[0][..] } else { &[] }, number].concat());
    }
    let mut key = Vec::new();
    put_der(&mut key, 0x30, &content);
    RsaKeyPair::from_der(&key).ok().map(Signer::Rsa)
}

fn put_der(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    let length = content.len().to_be_bytes();
    match u8::try_from(content.len()) {
        Ok(short @ ..0x80) => out.push(short),
        _ => {
            let length = trimmed(&length);
            out.push(0x80 | u8::try_from(length.len()).unwrap_or(0x7f));
            out.extend_from_slice(length);
        }
    }
    out.extend_from_slice(content);
}

/// `number` modulo `prime - 1`, bit by bit; all in big-endian bytes.
fn remainder_below(number: &[u8], prime: &[u8]) -> Option<Vec<u8>> {
    let mut divisor = prime.to_vec();
    *divisor.last_mut().filter(|last| **last & 1 == 1)? -= 1; // a prime is odd
    // One byte more than the divisor, so that twice the rest fits.
    divisor.insert(0, 0);
    let mut rest = vec![0u8; divisor.len()];
    for bit in number.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1)) {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            (*byte, carry) = (*byte << 1 | carry, *byte >> 7);
        }
        if rest >= divisor {
            let mut borrow = false;
            for (byte, other) in rest.iter_mut().zip(&divisor).rev() {
                let (once, first) = byte.overflowing_sub(*other);
                let (twice, second) = once.overflowing_sub(u8::from(borrow));
                (*byte, borrow) = (twice, first || second);
            }
        }
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders() {
        for (number, prime) in [(1_000_003_u64, 97_u64), (5, 97), (96, 97), (u64::MAX, 4_294_967_291)] {
            let found = remainder_below(&number.to_be_bytes(), trimmed(&prime.to_be_bytes())).expect("odd");
            let found = found.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
            assert_eq!(found, number % (prime - 1));
        }
        assert_eq!(remainder_below(&[1], &[8]), None);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for text in ["", "text", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"] {
            std::fs::write(file.path(), text).expect("write");
            assert!(matches!(Key::read(file.path()), Err(KeyError::NoKey(_))), "{text:?}");
        }
    }
}

//! Bearer tokens: JSON web tokens that say what their holder may do.
//!
//! The keys are pinned by a file. What a token's own header says about keys (`jwk`, `jku`, `x5c`) is never looked at
//! (CVE-2025-24976), and the algorithm has to be the key's: neither `none` nor a shared secret made of a public key passes.

use std::path::Path;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::auth::watched::{FileError, Watched};
use crate::content::tables::now;

/// How far clocks may differ, in seconds.
const LEEWAY: u64 = 30;

/// How long a token of the registry's own is good, in seconds. A longer push asks for another.
const LIFETIME: i64 = 300;

/// Longer tokens are not looked at.
const LIMIT: usize = 64 << 10;

/// Where tokens come from and who they are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSource {
    /// Where clients get them; the registry's own endpoint without.
    pub realm: Option<String>,
    /// Who they have to be for (`aud`).
    pub service: String,
    /// Who has to have made them (`iss`).
    pub issuer: String,
}

/// What a token lets its holder do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// Who holds it.
    #[serde(default)]
    pub sub: String,
    /// What may be done to what.
    #[serde(default)]
    pub access: Vec<Access>,
}

/// Actions on one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    /// `repository` or `registry`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What may be done; `*` for everything.
    #[serde(default)]
    pub actions: Vec<String>,
}

impl Grant {
    pub(crate) fn allows(&self, kind: &str, name: &str, action: &str) -> bool {
        self.access.iter().any(|access| {
            access.kind == kind
                && access.name == name
                && access.actions.iter().any(|allowed| allowed == action || allowed == "*")
        })
    }
}

/// A key that tokens may be signed with.
#[derive(Clone)]
struct PinnedKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl std::fmt::Debug for PinnedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.algorithm, self.id)
    }
}

/// Checks tokens of another service.
#[derive(Debug)]
pub struct Verifier {
    pub(crate) source: TokenSource,
    keys: Watched<Vec<PinnedKey>>,
}

impl Verifier {
    /// Takes the keys from a file: a JSON web key set, or public keys and certificates in PEM.
    pub fn open(source: TokenSource, keys: &Path) -> Result<Self, FileError> {
        Ok(Verifier { source, keys: Watched::open(keys, parse_keys)? })
    }

    pub(crate) fn read_again(&self) -> Result<(), FileError> {
        self.keys.read_again()
    }

    /// What a good token allows.
    pub(crate) fn verify(&self, token: &str) -> Option<Grant> {
        verify(token, &self.keys.get(), &self.source)
    }
}

fn verify(token: &str, keys: &[PinnedKey], source: &TokenSource) -> Option<Grant> {
    if token.len() > LIMIT {
        return None;
    }
    let header = jsonwebtoken::decode_header(token).ok()?;
    let named = |key: &&PinnedKey| key.id.is_none() || header.kid.is_none() || key.id == header.kid;
    keys.iter().filter(|key| key.algorithm == header.alg).filter(named).find_map(|key| {
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_audience(&[&source.service]);
        validation.set_issuer(&[&source.issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        jsonwebtoken::decode::<Grant>(token, &key.key, &validation).ok().map(|token| token.claims)
    })
}

fn parse_keys(bytes: &[u8]) -> Result<Vec<PinnedKey>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let keys = if text.trim_start().starts_with('{') {
        let set: JwkSet = serde_json::from_str(text).map_err(|error| error.to_string())?;
        set.keys.iter().map(from_jwk).collect::<Result<Vec<_>, _>>()?
    } else {
        blocks(text).map(from_pem).collect::<Result<Vec<_>, _>>()?
    };
    if keys.is_empty() { Err("no keys in it".to_owned()) } else { Ok(keys) }
}

fn from_jwk(jwk: &Jwk) -> Result<PinnedKey, String> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(curve) if curve.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return Err("a key that is neither RSA nor P-256 nor Ed25519".to_owned()),
    };
    let key = DecodingKey::from_jwk(jwk).map_err(|error| error.to_string())?;
    Ok(PinnedKey { id: jwk.common.key_id.clone(), algorithm, key })
}

fn from_pem(block: &str) -> Result<PinnedKey, String> {
    type Read = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;
    let readers: [(Algorithm, Read); 3] = [
        (Algorithm::RS256, DecodingKey::from_rsa_pem),
        (Algorithm::ES256, DecodingKey::from_ec_pem),
        (Algorithm::EdDSA, DecodingKey::from_ed_pem),
    ];
    if block.contains("PRIVATE KEY") {
        return Err("a private key, which has no place here".to_owned());
    }
    let found = readers.iter().find_map(|(algorithm, read)| Some((*algorithm, read(block.as_bytes()).ok()?)));
    let (algorithm, key) = found.ok_or("a key that is neither RSA nor P-256 nor Ed25519")?;
    Ok(PinnedKey { id: None, algorithm, key })
}

/// The single blocks of a PEM file.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive("-----END").zip(text.split("-----END").skip(1)).filter_map(|(begun, ended)| {
        let start = begun.find("-----BEGIN")?;
        let begin = begun[start..].as_ptr() as usize - text.as_ptr() as usize;
        let end = ended.as_ptr() as usize - text.as_ptr() as usize + ended.find('\n').unwrap_or(ended.len());
        text.get(begin..end)
    })
}

/// Makes tokens for users of the password file.
pub struct Issuer {
    pub(crate) source: TokenSource,
    signing: EncodingKey,
    own: [PinnedKey; 1],
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer({:?})", self.source)
    }
}

/// A token's content.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    exp: i64,
    nbf: i64,
    iat: i64,
    jti: String,
    #[serde(flatten)]
    grant: &'a Grant,
}

impl Issuer {
    /// Signs with the key in `file`, which is made if it is missing.
    pub fn open(file: &Path, source: TokenSource) -> Result<Self, FileError> {
        let key = Watched::open(file, |bytes| Ok(bytes.to_vec()))
            .or_else(|_| make_key(file).and_then(|()| Watched::open(file, |bytes| Ok(bytes.to_vec()))))?;
        let der = key.get();
        let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|error| FileError::new(file, error))?;
        Ok(Issuer {
            source,
            signing: EncodingKey::from_ed_der(&der),
            own: [PinnedKey {
                id: None,
                algorithm: Algorithm::EdDSA,
                key: DecodingKey::from_ed_der(pair.public_key().as_ref()),
            }],
        })
    }

    pub(crate) fn verify(&self, token: &str) -> Option<Grant> {
        verify(token, &self.own, &self.source)
    }

    /// A token, and for how many seconds it is good.
    pub(crate) fn issue(&self, grant: &Grant) -> Result<(String, i64), jsonwebtoken::errors::Error> {
        let at = now() / 1000;
        let claims = Claims {
            iss: &self.source.issuer,
            aud: &self.source.service,
            exp: at + LIFETIME,
            nbf: at,
            iat: at,
            jti: skep_fs::atomic::random_name(),
            grant,
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &self.signing)?;
        Ok((token, LIFETIME))
    }
}

fn make_key(file: &Path) -> Result<(), FileError> {
    let der = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
        .map_err(|error| FileError::new(file, error))?;
    skep_fs::atomic::write_file(file, der.as_ref(), 0o600).map_err(|error| FileError::new(file, error))
}

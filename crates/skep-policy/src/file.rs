//! The policy document.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::Value;
use skep_types::Reference;

use crate::scope;
use crate::strict;

/// The most bytes that a policy may have.
pub const MAX_POLICY_SIZE: u64 = 4 << 20;

/// A policy, read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub(crate) default: Vec<Requirement>,
    /// By transport, then by scope; the empty scope is a transport's own default.
    pub(crate) transports: ByTransport<Requirement>,
}

/// One thing that an image has to meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// Anything goes.
    InsecureAcceptAnything,
    /// Nothing does.
    Reject,
    /// A cosign signature made with one of the keys, for this image under this name.
    SigstoreSigned {
        /// Any of these keys will do.
        keys: Vec<KeySource>,
        /// What the name in the signature has to be.
        identity: IdentityMatch,
    },
    /// Something that skep doesn't do; this is its name. No image meets it.
    Unsupported(&'static str),
}

/// Where a public key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In a file, read each time.
    File(PathBuf),
    /// In the policy: PEM.
    Data(Vec<u8>),
}

/// How the name in a signature relates to the one asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityMatch {
    /// The same, or the same repository if the image is asked for by digest.
    RepoDigestOrExact,
    /// The same, tag or digest included.
    Exact,
    /// The same repository.
    Repository,
    /// This name, whatever was asked for.
    ExactReference(Reference),
    /// This repository, whatever was asked for.
    ExactRepository(Reference),
    /// As `RepoDigestOrExact`, after one prefix of the name asked for was put in another's place (mirrors).
    Remap {
        /// Of the name asked for: a repository, a namespace or a host.
        prefix: String,
        /// Of the name in the signature.
        signed_prefix: String,
    },
}

/// Why a document is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not JSON, or not of the right form.
    #[error("{0}")]
    Format(String),
    /// A list without requirements would let everything in.
    #[error("List of verification policy requirements must not be empty")]
    Empty,
    /// A scope that can't be one.
    #[error("invalid scope {scope:?} of transport {transport:?}: {why}")]
    Scope {
        /// The transport.
        transport: String,
        /// The scope.
        scope: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// None or several ways to name the keys.
    #[error("exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki must be specified")]
    Keys,
    /// A key that isn't base64.
    #[error("a key in the policy is not base64: {0}")]
    Base64(String),
    /// A name in `signedIdentity` that is none.
    #[error("invalid {field} {text:?} of signedIdentity")]
    Identity {
        /// The key.
        field: &'static str,
        /// Its value.
        text: String,
    },
}

type ByTransport<T> = BTreeMap<String, BTreeMap<String, Vec<T>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Vec<RequirementText>,
    #[serde(default, deserialize_with = "transports")]
    transports: ByTransport<RequirementText>,
}

#[derive(Deserialize)]
struct Scopes(#[serde(deserialize_with = "strict::map")] BTreeMap<String, Vec<RequirementText>>);

fn transports<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ByTransport<RequirementText>, D::Error> {
    let map: BTreeMap<String, Scopes> = strict::map(deserializer)?;
    Ok(map.into_iter().map(|(transport, Scopes(scopes))| (transport, scopes)).collect())
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum RequirementText {
    InsecureAcceptAnything(Nothing),
    Reject(Nothing),
    SignedBy {},
    SignedBaseLayer {},
    SigstoreSigned(Box<Sigstore>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sigstore {
    key_path: Option<String>,
    key_paths: Option<Vec<String>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    fulcio: Option<Value>,
    pki: Option<Value>,
    rekor_public_key_path: Option<Value>,
    rekor_public_key_paths: Option<Value>,
    rekor_public_key_data: Option<Value>,
    rekor_public_key_datas: Option<Value>,
    signed_identity: Option<Identity>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Identity {
    MatchRepoDigestOrExact(Nothing),
    MatchExact(Nothing),
    MatchRepository(Nothing),
    ExactReference(ExactReference),
    ExactRepository(ExactRepository),
    RemapIdentity(RemapIdentity),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExactReference {
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExactRepository {
    docker_repository: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RemapIdentity {
    prefix: String,
    signed_prefix: String,
}

impl Policy {
    /// Reads a policy.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        let document: Document = serde_json::from_slice(bytes).map_err(|e| PolicyError::Format(e.to_string()))?;
        let mut transports = BTreeMap::new();
        for (transport, scopes) in document.transports {
            let mut read = BTreeMap::new();
            for (scope, texts) in scopes {
                scope::check(&transport, &scope)?;
                read.insert(scope, requirements(texts)?);
            }
            transports.insert(transport, read);
        }
        Ok(Policy { default: requirements(document.default)?, transports })
    }
}

fn requirements(texts: Vec<RequirementText>) -> Result<Vec<Requirement>, PolicyError> {
    if texts.is_empty() {
        return Err(PolicyError::Empty);
    }
    texts.into_iter().map(requirement).collect()
}

fn requirement(text: RequirementText) -> Result<Requirement, PolicyError> {
    Ok(match text {
        RequirementText::InsecureAcceptAnything(_) => Requirement::InsecureAcceptAnything,
        RequirementText::Reject(_) => Requirement::Reject,
        RequirementText::SignedBy {} => Requirement::Unsupported("signedBy (GPG)"),
        RequirementText::SignedBaseLayer {} => Requirement::Unsupported("signedBaseLayer"),
        RequirementText::SigstoreSigned(sigstore) => self::sigstore(*sigstore)?,
    })
}

fn sigstore(text: Sigstore) -> Result<Requirement, PolicyError> {
    let identity = text.signed_identity.map_or(Ok(IdentityMatch::RepoDigestOrExact), identity)?;
    let file = |path: String| KeySource::File(PathBuf::from(path));
    let data = |text: String| {
        BASE64_STANDARD.decode(text).map(KeySource::Data).map_err(|e| PolicyError::Base64(e.to_string()))
    };
    let mut sources: Vec<Vec<KeySource>> = Vec::new();
    sources.extend(text.key_path.map(|path| vec![file(path)]));
    sources.extend(text.key_paths.map(|paths| paths.into_iter().map(file).collect()));
    sources.extend(text.key_data.map(|text| data(text).map(|key| vec![key])).transpose()?);
    sources.extend(text.key_datas.map(|texts| texts.into_iter().map(data).collect()).transpose()?);
    let foreign = usize::from(text.fulcio.is_some()) + usize::from(text.pki.is_some());
    if sources.len() + foreign != 1 || sources.first().is_some_and(Vec::is_empty) {
        return Err(PolicyError::Keys);
    }
    let rekor = [
        &text.rekor_public_key_path,
        &text.rekor_public_key_paths,
        &text.rekor_public_key_data,
        &text.rekor_public_key_datas,
    ];
    Ok(match sources.pop() {
        None if text.fulcio.is_some() => Requirement::Unsupported("sigstoreSigned with fulcio"),
        None => Requirement::Unsupported("sigstoreSigned with pki"),
        Some(_) if rekor.iter().any(|key| key.is_some()) => {
            Requirement::Unsupported("sigstoreSigned with a Rekor public key")
        }
        Some(keys) => Requirement::SigstoreSigned { keys, identity },
    })
}

fn identity(text: Identity) -> Result<IdentityMatch, PolicyError> {
    let bad = |field, text: &str| PolicyError::Identity { field, text: text.to_owned() };
    Ok(match text {
        Identity::MatchRepoDigestOrExact(_) => IdentityMatch::RepoDigestOrExact,
        Identity::MatchExact(_) => IdentityMatch::Exact,
        Identity::MatchRepository(_) => IdentityMatch::Repository,
        Identity::ExactReference(ExactReference { docker_reference: text }) => {
            let reference: Reference = text.parse().map_err(|_| bad("dockerReference", &text))?;
            if reference.tag().is_none() && reference.digest().is_none() {
                return Err(bad("dockerReference", &text));
            }
            IdentityMatch::ExactReference(reference)
        }
        Identity::ExactRepository(ExactRepository { docker_repository: text }) => {
            let reference: Reference = text.parse().map_err(|_| bad("dockerRepository", &text))?;
            if reference.tag().is_some() || reference.digest().is_some() {
                return Err(bad("dockerRepository", &text));
            }
            IdentityMatch::ExactRepository(reference)
        }
        Identity::RemapIdentity(RemapIdentity { prefix, signed_prefix }) => {
            if !scope::is_name_or_host(&prefix) {
                return Err(bad("prefix", &prefix));
            }
            if !scope::is_name_or_host(&signed_prefix) {
                return Err(bad("signedPrefix", &signed_prefix));
            }
            IdentityMatch::Remap { prefix, signed_prefix }
        }
    })
}

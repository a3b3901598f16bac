//! The decision.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use skep_types::{Digest, Reference};

use crate::file::{IdentityMatch, KeySource, Policy, Requirement};
use crate::key::PublicKey;
use crate::payload::{MEDIA_TYPE, Payload, SIGNATURE_ANNOTATION};
use crate::scope::Source;

/// A signature as a registry keeps it. Nothing about it can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// What the payload is said to be.
    pub media_type: String,
    /// Among them the signature itself.
    pub annotations: BTreeMap<String, String>,
    /// What was signed.
    pub payload: Vec<u8>,
}

/// An image that wants to come in.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Where from.
    pub source: Source<'a>,
    /// The digest of its manifest, and of the indexes that led to it by digest: who signed one of them signed the image.
    pub digests: &'a [Digest],
    /// The signatures that were found for any of these.
    pub signatures: &'a [Signature],
}

/// Why an image may not come in, in podman's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Source image rejected: {0}")]
pub struct Rejection(pub String);

impl Policy {
    /// Whether the decision on images from `source` needs their signatures.
    pub fn needs_signatures(&self, source: &Source<'_>) -> bool {
        let mut requirements = self.requirements(source).iter();
        requirements.any(|requirement| matches!(requirement, Requirement::SigstoreSigned { .. }))
    }
}

/// Whether the policy lets the image in: it has to meet all requirements of its scope. `read` reads a key's file.
pub fn evaluate(
    policy: &Policy,
    image: &Candidate<'_>,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<(), Rejection> {
    if policy.asks_for_paths(&image.source) {
        return Err(Rejection(
            "scopes of oci-archive that are paths are not supported: archives arrive as a stream".into(),
        ));
    }
    for requirement in policy.requirements(&image.source) {
        match requirement {
            Requirement::InsecureAcceptAnything => {}
            Requirement::Reject => {
                return Err(Rejection(format!("Running image {} is rejected by policy.", image.source)));
            }
            Requirement::Unsupported(what) => {
                return Err(Rejection(format!("the policy requires {what}, which is not supported")));
            }
            Requirement::SigstoreSigned { keys, identity } => {
                sigstore_signed(image, keys, identity, read).map_err(Rejection)?;
            }
        }
    }
    Ok(())
}

fn sigstore_signed(
    image: &Candidate<'_>,
    sources: &[KeySource],
    identity: &IdentityMatch,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<(), String> {
    // A key that can't be read refuses, also when another one would do: the policy is not in force as it is written.
    let keys: Vec<PublicKey> = sources.iter().map(|source| load(source, read)).collect::<Result<_, _>>()?;
    let mut reasons = Vec::new();
    let mut others = 0usize;
    for signature in image.signatures {
        if signature.media_type != MEDIA_TYPE {
            others += 1;
            continue;
        }
        match accepts(image, signature, &keys, identity) {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(match (reasons.len(), others) {
        (0, 0) => "A signature was required, but no signature exists".to_owned(),
        (0, others) => format!(
            "A signature was required, but no signature exists (0 non-sigstore signatures, {others} sigstore \
             non-signature attachments)"
        ),
        (1, _) => reasons.swap_remove(0),
        _ => format!("None of the signatures were accepted, reasons: {}", reasons.join("; ")),
    })
}

fn load(source: &KeySource, read: &dyn Fn(&Path) -> io::Result<Vec<u8>>) -> Result<PublicKey, String> {
    match source {
        KeySource::Data(pem) => PublicKey::from_pem(pem),
        KeySource::File(path) => {
            let pem = read(path).map_err(|e| format!("open {}: {e}", path.display()))?;
            PublicKey::from_pem(&pem)
        }
    }
}

/// Whether one signature is by one of the keys, of this image, under the right name. Only what was verified is looked at.
fn accepts(
    image: &Candidate<'_>,
    signature: &Signature,
    keys: &[PublicKey],
    identity: &IdentityMatch,
) -> Result<(), String> {
    let text = signature.annotations.get(SIGNATURE_ANNOTATION);
    let text = text.ok_or_else(|| format!("missing {SIGNATURE_ANNOTATION} annotation"))?;
    let bytes = BASE64_STANDARD.decode(text).map_err(|e| format!("base64 decoding: {e}"))?;
    if !keys.iter().any(|key| key.verifies(&signature.payload, &bytes)) {
        return Err("cryptographic signature verification failed: invalid signature".to_owned());
    }
    let payload = Payload::parse(&signature.payload)?;
    if !image.digests.contains(&payload.digest) {
        return Err(format!("Signature for digest {} does not match", payload.digest));
    }
    let named = |wanted: &Reference| identity.accepts(wanted, &payload.reference);
    match image.source {
        Source::Docker(wanted) if named(wanted) => Ok(()),
        _ => Err(format!("Signature for identity {:?} is not accepted", payload.reference)),
    }
}

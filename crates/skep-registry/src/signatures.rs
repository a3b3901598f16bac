//! Signatures that a registry keeps beside an image, in cosign's form: an OCI manifest under the tag `sha256-HEX.sig`, or one that
//! refers to the image (distribution spec 1.1, "Listing Referrers"), whose layers are the signed documents and whose layers' annotations
//! hold the signatures.
//!
//! Only fetched here, and bounded; whether one of them counts is decided elsewhere. What can't be fetched is an error: a policy must not be
//! satisfied, and not be failed either, by half of what there is. But a registry without referrers has none.

use std::collections::BTreeMap;

use serde::Deserialize;
use skep_types::Digest;

use crate::blob::digest_of;
use crate::manifest::{Descriptor, ManifestError};
use crate::repository::Repository;
use crate::{RegistryError, Result};

/// The most signatures of an image that are fetched, and the most bytes that a signed document may have.
const MAX_SIGNATURES: usize = 64;
const MAX_PAYLOAD: u64 = 256 << 10;

/// What cosign's manifests that refer to an image say that they are.
const COSIGN_REFERRER: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// Signatures in a form that is newer than this client's.
const BUNDLE: &str = "sigstore.bundle";

/// A signature beside an image. Nothing about it can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedSignature {
    /// What the document is said to be.
    pub media_type: String,
    /// Among them the signature itself.
    pub annotations: BTreeMap<String, String>,
    /// The signed document; empty if it is of a kind that isn't fetched.
    pub payload: Vec<u8>,
}

/// A manifest whose layers are signatures; of anything else in it nothing is asked.
#[derive(Deserialize)]
struct SignatureManifest {
    layers: Vec<Descriptor>,
}

impl Repository {
    /// The signatures of the manifest or index `digest`.
    pub async fn signatures(&self, digest: &Digest) -> Result<Vec<AttachedSignature>> {
        let mut found = Vec::new();
        let tag = format!("sha256-{}.sig", digest.hex());
        if let Some(raw) = self.document(&format!("manifests/{tag}")).await? {
            self.read_signatures(&raw, &mut found).await?;
        }
        for referrer in self.referrers(digest).await? {
            if referrer.artifact_type == COSIGN_REFERRER {
                let Some(raw) = self.document(&format!("manifests/{}", referrer.digest)).await? else { continue };
                if digest_of(&raw) != referrer.digest {
                    return Err(RegistryError::Digest { what: "manifest", expected: referrer.digest });
                }
                self.read_signatures(&raw, &mut found).await?;
            } else if referrer.artifact_type.contains(BUNDLE) {
                let media_type = referrer.artifact_type;
                found.push(AttachedSignature { media_type, annotations: BTreeMap::new(), payload: Vec::new() });
            }
            bounded(found.len())?;
        }
        Ok(found)
    }

    async fn read_signatures(&self, raw: &[u8], found: &mut Vec<AttachedSignature>) -> Result<()> {
        let manifest: SignatureManifest = serde_json::from_slice(raw).map_err(ManifestError::from)?;
        bounded(found.len() + manifest.layers.len())?;
        for layer in manifest.layers {
            let payload = self.small_blob(&layer, MAX_PAYLOAD).await?;
            found.push(AttachedSignature { media_type: layer.media_type, annotations: layer.annotations, payload });
        }
        Ok(())
    }
}

fn bounded(count: usize) -> Result<()> {
    match count {
        ..=MAX_SIGNATURES => Ok(()),
        _ => Err(RegistryError::TooManySignatures(MAX_SIGNATURES)),
    }
}

//! What a cosign signature signs: the "simple signing" document (`cosign container image signature`).
//!
//! Read strictly, after its signature was found good: what is under `critical` decides, so nothing unknown may be there.

use serde::Deserialize;
use serde_json::{Map, Value};
use skep_types::Digest;

/// The media type of such a document.
pub const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation that holds its signature in base64.
pub const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";

const TYPE: &str = "cosign container image signature";

/// What the signer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Name of the image.
    pub reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    critical: Critical,
    /// Whatever the signer added; it decides nothing.
    #[expect(dead_code, reason = "has to be there, and to be an object or null")]
    optional: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
    identity: Identity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

impl Payload {
    /// Reads the document; what is wrong with it, otherwise.
    pub fn parse(bytes: &[u8]) -> Result<Payload, String> {
        let document: Document = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if document.critical.kind != TYPE {
            return Err(format!("Unrecognized signature type {}", document.critical.kind));
        }
        Ok(Payload { digest: document.critical.image.digest, reference: document.critical.identity.reference })
    }
}

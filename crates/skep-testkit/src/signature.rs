//! Signatures as cosign makes them, kept in a registry beside the image.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::Registry;
use crate::image::sha256;

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A key pair, as `cosign generate-key-pair` makes it.
#[derive(Debug)]
pub struct Signer {
    pair: EcdsaKeyPair,
}

impl Default for Signer {
    fn default() -> Self {
        Signer { pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key pair") }
    }
}

impl Signer {
    /// The public key in PEM.
    pub fn public_key(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.pair.public_key().as_der().expect("a public key");
        let text = BASE64_STANDARD.encode(der.as_ref());
        let lines: Vec<String> = text.as_bytes().chunks(64).map(|c| String::from_utf8_lossy(c).into_owned()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// Signs `digest` as `reference`, and stores the signature where clients look for one of `beside`: the same digest, unless
    /// somebody cheats.
    #[track_caller]
    pub fn sign(&self, registry: &Registry, repository: &str, digest: &str, reference: &str, beside: &str) {
        let tag = format!("{}.sig", beside.replacen(':', "-", 1));
        let manifest = self.manifest(registry, repository, digest, reference);
        registry.put_manifest(repository, &tag, MANIFEST, manifest.to_string().as_bytes());
    }

    /// The manifest of a signature, whose blobs are stored.
    #[track_caller]
    fn manifest(&self, registry: &Registry, repository: &str, digest: &str, reference: &str) -> serde_json::Value {
        let payload = json!({
            "critical": {
                "identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": null,
        })
        .to_string();
        let signature = self.pair.sign(&SystemRandom::new(), payload.as_bytes()).expect("a signature");
        let layer = registry.upload(repository, payload.as_bytes());
        let config =
            json!({"architecture": "", "config": {}, "os": "", "history": [{"created": "0001-01-01T00:00:00Z"}],
            "rootfs": {"type": "layers", "diff_ids": [sha256(payload.as_bytes())]}})
            .to_string();
        let config_digest = registry.upload(repository, config.as_bytes());
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": config.len(), "digest": config_digest},
            "layers": [{
                "mediaType": SIMPLE_SIGNING,
                "size": payload.len(),
                "digest": layer,
                "annotations": {"dev.cosignproject.cosign/signature": BASE64_STANDARD.encode(signature.as_ref())},
            }],
        })
    }
}

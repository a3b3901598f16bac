//! Manifests, attestation manifests and the index of what a build made, in BuildKit's form. Pure.
//!
//! ```text
//! index ─┬─ manifest linux/amd64 ─► configuration, layers
//!        └─ manifest unknown/unknown, "attestation-manifest" about the one above ─► in-toto statements
//! ```
//! An image of one platform about which nothing is said has no index.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use skep_registry::{Descriptor, digest_of, media_type};
use skep_types::{Digest, Platform, Reference};

use super::super::push::document::{Document, layer_type};
use super::super::{ImageError, Result};
use super::annotations::{Annotations, Scope};

/// The media type of an in-toto statement, and the annotation that says what it states.
pub(crate) const STATEMENT: &str = "application/vnd.in-toto+json";
pub(crate) const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
const ATTESTATION: &str = "application/vnd.docker.attestation.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Something that is said about an image.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    /// Its type, a URL.
    pub(crate) predicate_type: String,
    /// JSON.
    pub(crate) predicate: Vec<u8>,
}

/// One image, whose layers have blobs.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) config: Vec<u8>,
    pub(crate) platform: Platform,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) said: Vec<Said>,
}

/// How the documents are written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    /// Names that statements call the image.
    pub(crate) names: Vec<Reference>,
    /// OCI's media types, also where nothing needs them.
    pub(crate) oci: bool,
    /// An index, also of a single image.
    pub(crate) index: bool,
    /// Attestations as artifacts that have a subject.
    pub(crate) artifact: bool,
    pub(crate) annotations: Annotations,
}

/// Statements about one manifest.
#[derive(Debug)]
pub(crate) struct Attestations {
    pub(crate) subject: Digest,
    pub(crate) manifest: Document,
    /// Configuration and statements, whose digests the manifest has.
    pub(crate) blobs: Vec<Bytes>,
}

/// All documents of a result.
#[derive(Debug)]
pub(crate) struct Documents {
    /// What a name is to lead to.
    pub(crate) top: Document,
    /// Of each image, in their order; the only one is `top` if there is no index.
    pub(crate) manifests: Vec<Document>,
    pub(crate) attestations: Vec<Attestations>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    config: Value,
    layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: Vec<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: &'a str,
    predicate_type: &'a str,
    subject: Vec<Value>,
    predicate: &'a RawValue,
}

/// An in-toto statement. `subjects` are names with sha256 digests.
pub(crate) fn statement(said: &Said, subjects: &[(String, String)]) -> Result<Vec<u8>> {
    let predicate: &RawValue = serde_json::from_slice(&said.predicate).map_err(std::io::Error::from)?;
    let subject = subjects.iter().map(|(name, digest)| json!({"name": name, "digest": {"sha256": digest}}));
    bytes_of(&Statement {
        kind: "https://in-toto.io/Statement/v0.1",
        predicate_type: &said.predicate_type,
        subject: subject.collect(),
        predicate,
    })
}

impl Documents {
    /// Writes them.
    ///
    /// # Errors
    /// Annotations of an index where there is none.
    pub(crate) fn write(parts: &[Part], terms: &Terms) -> Result<Self> {
        let index = terms.index || parts.len() > 1 || parts.iter().any(|part| !part.said.is_empty());
        let zstd = |part: &Part| part.layers.iter().any(|layer| layer.media_type.ends_with("zstd"));
        let attested = parts.iter().any(|part| !part.said.is_empty());
        let oci = terms.oci || attested || !terms.annotations.is_empty() || parts.iter().any(zstd);
        let on_index = terms.annotations.on(Scope::Index, None);
        if !index && !on_index.is_empty() {
            return Err(ImageError::Invalid("index annotations not supported for single platform export".to_owned()));
        }
        let manifests = parts.iter().map(|part| manifest(part, terms, oci)).collect::<Result<Vec<_>>>()?;
        if !index {
            let top = manifests.first().cloned();
            let top = top.ok_or_else(|| ImageError::Invalid("there is no image to export".to_owned()))?;
            return Ok(Documents { top, manifests, attestations: Vec::new() });
        }
        let mut entries: Vec<Descriptor> = manifests.iter().map(|manifest| manifest.descriptor.clone()).collect();
        let mut attestations = Vec::new();
        for (part, manifest) in parts.iter().zip(&manifests).filter(|(part, _)| !part.said.is_empty()) {
            let made = attest(part, &manifest.descriptor, terms)?;
            entries.push(made.manifest.descriptor.clone());
            attestations.push(made);
        }
        let media_type = match oci {
            true => media_type::OCI_INDEX,
            false => media_type::DOCKER_LIST,
        };
        let bytes = bytes_of(&Index { schema_version: 2, media_type, manifests: entries, annotations: on_index })?;
        let mut top = Document::new(media_type.to_owned(), bytes.into());
        top.descriptor.annotations = terms.annotations.on(Scope::IndexDescriptor, None);
        Ok(Documents { top, manifests, attestations })
    }

    /// All documents with their bytes but configurations of images.
    pub(crate) fn all(&self) -> BTreeMap<Digest, Bytes> {
        let attached = self.attestations.iter();
        let blobs = attached.clone().flat_map(|one| &one.blobs).map(|bytes| (digest_of(bytes), bytes.clone()));
        let documents = self.manifests.iter().chain([&self.top]).chain(attached.map(|one| &one.manifest));
        documents.map(|document| (document.descriptor.digest, document.bytes.clone())).chain(blobs).collect()
    }

    /// All documents with their media types, what names lead to first, and what is said about images.
    pub(crate) fn told(&self) -> impl Iterator<Item = (String, Bytes)> {
        let attached = self.attestations.iter();
        let documents = [&self.top].into_iter().chain(&self.manifests).chain(attached.clone().map(|one| &one.manifest));
        let said = attached.flat_map(|one| &one.blobs).map(|bytes| (STATEMENT.to_owned(), bytes.clone()));
        documents.map(|one| (one.descriptor.media_type.clone(), one.bytes.clone())).chain(said)
    }

    /// The index, if there is one.
    pub(crate) fn index(&self) -> Option<&Document> {
        let digest = self.top.descriptor.digest;
        (!self.manifests.iter().any(|manifest| manifest.descriptor.digest == digest)).then_some(&self.top)
    }
}

fn manifest(part: &Part, terms: &Terms, oci: bool) -> Result<Document> {
    let (own, config) = match oci {
        true => (media_type::OCI_MANIFEST, media_type::OCI_CONFIG),
        false => (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG),
    };
    let layer = |layer: &Descriptor| plain(&layer_type(&layer.media_type, !oci), layer.digest, layer.size);
    let bytes = bytes_of(&Manifest {
        schema_version: 2,
        media_type: own,
        artifact_type: None,
        config: json!(plain(config, digest_of(&part.config), part.config.len() as u64)),
        layers: part.layers.iter().map(layer).collect(),
        subject: None,
        annotations: terms.annotations.on(Scope::Manifest, Some(&part.platform)),
    })?;
    let mut document = Document::new(own.to_owned(), bytes.into());
    document.descriptor.platform = Some(part.platform.clone());
    document.descriptor.annotations = terms.annotations.on(Scope::ManifestDescriptor, Some(&part.platform));
    Ok(document)
}

fn attest(part: &Part, subject: &Descriptor, terms: &Terms) -> Result<Attestations> {
    let mut names: Vec<String> = terms.names.iter().map(|name| package_url(name, &part.platform)).collect();
    if names.is_empty() {
        names.push("_".to_owned());
    }
    let subjects: Vec<_> = names.into_iter().map(|name| (name, subject.digest.hex())).collect();
    let (mut blobs, mut layers) = (Vec::new(), Vec::new());
    for said in &part.said {
        let bytes = statement(said, &subjects)?;
        let annotations = [(PREDICATE_TYPE.to_owned(), said.predicate_type.clone())].into();
        layers.push(Descriptor { annotations, ..plain(STATEMENT, digest_of(&bytes), bytes.len() as u64) });
        blobs.push(Bytes::from(bytes));
    }
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
    let (config, config_type) = match terms.artifact {
        true => (b"{}".to_vec(), EMPTY),
        false => {
            let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
            let config = json!({"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": rootfs});
            (bytes_of(&config)?, media_type::OCI_CONFIG)
        }
    };
    let target = || plain(&subject.media_type, subject.digest, subject.size);
    let bytes = bytes_of(&Manifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST,
        artifact_type: terms.artifact.then_some(ATTESTATION),
        config: json!(plain(config_type, digest_of(&config), config.len() as u64)),
        layers,
        subject: terms.artifact.then(target),
        annotations: BTreeMap::new(),
    })?;
    blobs.push(config.into());
    let mut manifest = Document::new(media_type::OCI_MANIFEST.to_owned(), bytes.into());
    let unknown = "unknown".to_owned();
    manifest.descriptor.platform =
        Some(Platform { os: unknown.clone(), architecture: unknown, variant: String::new() });
    manifest.descriptor.annotations = [
        ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
        ("vnd.docker.reference.digest".to_owned(), subject.digest.to_string()),
    ]
    .into();
    Ok(Attestations { subject: subject.digest, manifest, blobs })
}

/// The package URL of an image: `pkg:docker/alpine@3?platform=linux%2Famd64`.
fn package_url(name: &Reference, platform: &Platform) -> String {
    let tag = name.tag().unwrap_or("latest");
    let platform = platform.to_string().replace('/', "%2F");
    format!("pkg:docker/{}@{tag}?platform={platform}", name.familiar_name())
}

pub(super) fn plain(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: BTreeMap::new() }
}

fn bytes_of(value: &impl Serialize) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(value).map_err(std::io::Error::from)?)
}

#[cfg(test)]
mod tests {
    use super::super::super::catalog::tests::id;
    use super::*;

    fn part(said: &[&str]) -> Part {
        let said =
            said.iter().map(|kind| Said { predicate_type: (*kind).to_owned(), predicate: b"{\"b\":1}".to_vec() });
        Part {
            config: b"{}".to_vec(),
            platform: "linux/amd64".parse().expect("a platform"),
            layers: vec![plain("application/vnd.oci.image.layer.v1.tar+gzip", id("aa"), 7)],
            said: said.collect(),
        }
    }

    fn json_of(document: &Document) -> Value {
        serde_json::from_slice(&document.bytes).expect("json")
    }

    #[test]
    fn a_single_image_has_no_index() {
        let documents = Documents::write(&[part(&[])], &Terms::default()).expect("documents");
        assert_eq!(documents.top.descriptor.media_type, media_type::DOCKER_MANIFEST);
        assert!(documents.index().is_none());
        let layer = json_of(&documents.top)["layers"][0]["mediaType"].clone();
        assert_eq!(layer, "application/vnd.docker.image.rootfs.diff.tar.gzip");
    }

    #[test]
    fn what_is_said_of_an_image_stands_beside_it() {
        let terms = Terms { names: vec!["localhost:5000/x:1".parse().expect("a name")], ..Terms::default() };
        let documents = Documents::write(&[part(&["https://slsa.dev/provenance/v0.2"])], &terms).expect("documents");
        let index = json_of(documents.index().expect("an index"));
        let (image, about) = (&index["manifests"][0], &index["manifests"][1]);
        assert_eq!(image["platform"]["architecture"], "amd64");
        assert_eq!(about["platform"]["os"], "unknown");
        assert_eq!(about["annotations"]["vnd.docker.reference.digest"], image["digest"]);
        assert_eq!(about["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
        let manifest = json_of(&documents.attestations[0].manifest);
        assert_eq!(manifest["layers"][0]["annotations"][PREDICATE_TYPE], "https://slsa.dev/provenance/v0.2");
        let said: Value = serde_json::from_slice(&documents.attestations[0].blobs[0]).expect("a statement");
        assert_eq!(said["subject"][0]["name"], "pkg:docker/localhost:5000/x@1?platform=linux%2Famd64");
        assert_eq!(
            format!("sha256:{}", said["subject"][0]["digest"]["sha256"].as_str().expect("hex")),
            image["digest"]
        );
        assert_eq!(said["predicate"]["b"], 1);
        assert_eq!(documents.all().len(), 5);
    }

    #[test]
    fn as_artifacts_statements_have_a_subject() {
        let terms = Terms { artifact: true, ..Terms::default() };
        let documents = Documents::write(&[part(&["https://spdx.dev/Document"])], &terms).expect("documents");
        let manifest = json_of(&documents.attestations[0].manifest);
        assert_eq!(manifest["artifactType"], ATTESTATION);
        assert_eq!(manifest["subject"]["digest"], documents.manifests[0].descriptor.digest.to_string());
        assert_eq!(manifest["config"]["mediaType"], EMPTY);
    }

    #[test]
    fn annotations_are_where_they_were_wanted() {
        let mut terms = Terms { index: true, ..Terms::default() };
        for (scope, key) in [
            (Scope::Manifest, "m"),
            (Scope::ManifestDescriptor, "md"),
            (Scope::Index, "i"),
            (Scope::IndexDescriptor, "id"),
        ] {
            terms.annotations.add(scope, None, key, "x");
        }
        let documents = Documents::write(&[part(&[])], &terms).expect("documents");
        let index = json_of(&documents.top);
        assert_eq!(json_of(&documents.manifests[0])["annotations"], json!({"m": "x"}));
        assert_eq!(index["manifests"][0]["annotations"], json!({"md": "x"}));
        assert_eq!(index["annotations"], json!({"i": "x"}));
        assert_eq!(documents.top.descriptor.annotations["id"], "x");
        let single = Documents::write(&[part(&[])], &Terms { index: false, ..terms });
        assert!(single.is_err_and(|error| error.to_string().contains("single platform")));
    }
}

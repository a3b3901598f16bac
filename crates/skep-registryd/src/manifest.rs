//! What a manifest says, checked before it is stored.
//!
//! A manifest is read the same way by everybody or not taken: one that could be an image to one client and an index to
//! another (CVE-2021-41190), a key twice, or a key in other letters than the specification's (which Go's decoder would take all
//! the same) is refused. Schema 1 is refused by its name.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::ContentDigest;

/// Manifests larger than this are refused (distribution spec, "Pushing Manifests").
pub const MAX_MANIFEST_SIZE: usize = 4 << 20;

/// The media types of manifests.
pub mod media_type {
    /// An image of the OCI.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// Several images of the OCI.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// The artifact form of an earlier draft, which older clients still push.
    pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
    /// Docker's image.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's several images.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The beginning of what nobody should push any more.
    pub(super) const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";
}

/// A pointer to content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Of what kind.
    pub media_type: String,
    /// Which.
    pub digest: ContentDigest,
    /// How many bytes.
    pub size: u64,
    /// Where else it is; a registry does not have to have such content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Of what kind an artifact is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What people wrote.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub annotations: Map<String, Value>,
    /// What an image runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Value>,
}

/// The kinds of manifests that are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Configuration and layers.
    Image,
    /// Other manifests.
    Index,
    /// Blobs without a configuration.
    Artifact,
}

/// A manifest that is good in itself.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Of what kind.
    pub kind: Kind,
    /// The media type it is served under.
    pub media_type: String,
    /// An image's configuration.
    pub config: Option<Descriptor>,
    /// Layers of an image, blobs of an artifact.
    pub blobs: Vec<Descriptor>,
    /// Manifests of an index.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one is about.
    pub subject: Option<Descriptor>,
    /// As referrers show it: the artifact's type, or else the configuration's media type.
    pub artifact_type: Option<String>,
    /// What people wrote.
    pub annotations: Map<String, Value>,
}

/// Why a manifest is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not of the form of its media type.
    #[error("manifest invalid: {0}")]
    Form(String),
    /// Of the first schema.
    #[error("manifest invalid: schema version 1 is not supported, push the image again with a current client")]
    Schema1,
    /// Readable in two ways.
    #[error("manifest invalid: ambiguous: {0}")]
    Ambiguous(String),
    /// The request says one media type, the manifest another.
    #[error("manifest invalid: sent as {sent}, but its mediaType is {written}")]
    MediaType {
        /// The request's.
        sent: String,
        /// The manifest's.
        written: String,
    },
    /// Of no known kind.
    #[error("manifest invalid: media type {0:?} is not supported")]
    Unsupported(String),
}

/// Everything that any kind of manifest may hold.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Form {
    schema_version: Option<i64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    blobs: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Option<Map<String, Value>>,
    // Only schema 1 has these.
    fs_layers: Option<Value>,
    history: Option<Value>,
    signatures: Option<Value>,
}

/// The keys that decide how a manifest is read.
const KEYS: [&str; 12] = [
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "blobs",
    "subject",
    "artifactType",
    "annotations",
    "fsLayers",
    "history",
    "signatures",
];

impl Manifest {
    /// Reads a manifest that was sent as `content_type` (empty if the client said nothing).
    pub fn parse(bytes: &[u8], content_type: &str) -> Result<Self, ManifestError> {
        let sent = content_type.split(';').next().unwrap_or_default().trim();
        if sent.starts_with(media_type::SCHEMA_1) {
            return Err(ManifestError::Schema1);
        }
        let form = read(bytes)?;
        let written = form.media_type.as_deref().unwrap_or_default();
        if written.starts_with(media_type::SCHEMA_1) || form.schema_version == Some(1) || form.fs_layers.is_some() {
            return Err(ManifestError::Schema1);
        }
        let generic = matches!(sent, "" | "application/json" | "application/octet-stream");
        if !generic && !written.is_empty() && written != sent {
            return Err(ManifestError::MediaType { sent: sent.to_owned(), written: written.to_owned() });
        }
        let media_type = match (generic, written) {
            (false, _) => sent.to_owned(),
            (true, "") => form.implied()?.to_owned(),
            (true, written) => written.to_owned(),
        };
        form.checked(media_type)
    }

    /// Everything that the repository has to have as blobs.
    pub fn needed_blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.blobs).filter(|descriptor| descriptor.urls.is_empty())
    }
}

fn read(bytes: &[u8]) -> Result<Form, ManifestError> {
    let wrong = |error: serde_json::Error| ManifestError::Form(error.to_string());
    // The derived reader refuses known keys that come twice; the map is for keys that only look like known ones.
    let form: Form = serde_json::from_slice(bytes).map_err(wrong)?;
    let map: Map<String, Value> = serde_json::from_slice(bytes).map_err(wrong)?;
    for key in map.keys() {
        if !KEYS.contains(&key.as_str()) && KEYS.iter().any(|known| known.eq_ignore_ascii_case(key)) {
            return Err(ManifestError::Ambiguous(format!("key {key:?} in other letters than the specification's")));
        }
    }
    Ok(form)
}

impl Form {
    /// The media type of a manifest that neither the client nor itself names.
    fn implied(&self) -> Result<&'static str, ManifestError> {
        match (&self.manifests, &self.layers, &self.config) {
            (Some(_), None, None) => Ok(media_type::OCI_INDEX),
            (None, Some(_), Some(_)) => Ok(media_type::OCI_MANIFEST),
            (Some(_), _, _) => Err(ManifestError::Ambiguous("manifests beside layers or config".to_owned())),
            _ => Err(ManifestError::Form("neither an image nor an index".to_owned())),
        }
    }

    fn checked(self, media_type: String) -> Result<Manifest, ManifestError> {
        let kind = match media_type.as_str() {
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => Kind::Image,
            media_type::OCI_INDEX | media_type::DOCKER_LIST => Kind::Index,
            media_type::OCI_ARTIFACT => Kind::Artifact,
            _ => return Err(ManifestError::Unsupported(media_type)),
        };
        if self.history.is_some() || self.signatures.is_some() {
            return Err(ManifestError::Ambiguous("it has parts of schema 1".to_owned()));
        }
        if kind != Kind::Artifact && self.schema_version != Some(2) {
            return Err(ManifestError::Form("schemaVersion is not 2".to_owned()));
        }
        let foreign = match kind {
            Kind::Image => self.manifests.is_some() || self.blobs.is_some(),
            Kind::Index => self.config.is_some() || self.layers.is_some() || self.blobs.is_some(),
            Kind::Artifact => self.config.is_some() || self.layers.is_some() || self.manifests.is_some(),
        };
        if foreign {
            return Err(ManifestError::Ambiguous(format!("it has parts that {media_type} has not")));
        }
        let missing = |key: &str| ManifestError::Form(format!("{key} is missing"));
        if kind == Kind::Image && self.config.is_none() {
            return Err(missing("config"));
        }
        let blobs = match kind {
            Kind::Image => self.layers.ok_or_else(|| missing("layers"))?,
            Kind::Artifact => self.blobs.unwrap_or_default(),
            Kind::Index => Vec::new(),
        };
        let manifests = match kind {
            Kind::Index => self.manifests.ok_or_else(|| missing("manifests"))?,
            Kind::Image | Kind::Artifact => Vec::new(),
        };
        let config_type = self.config.as_ref().map(|config| config.media_type.clone());
        Ok(Manifest {
            kind,
            media_type,
            artifact_type: self.artifact_type.filter(|text| !text.is_empty()).or(config_type),
            config: self.config,
            blobs,
            manifests,
            subject: self.subject,
            annotations: self.annotations.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn descriptor() -> Value {
        json!({"mediaType": "m/t", "digest": format!("sha256:{}", "0".repeat(64)), "size": 1})
    }

    fn image() -> Value {
        json!({"schemaVersion": 2, "config": descriptor(), "layers": [descriptor()]})
    }

    fn parse(value: &Value, content_type: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(value.to_string().as_bytes(), content_type)
    }

    #[test]
    fn every_kind_is_taken() {
        for (value, content_type, kind) in [
            (image(), media_type::OCI_MANIFEST, Kind::Image),
            (image(), "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8", Kind::Image),
            (image(), "", Kind::Image),
            (json!({"schemaVersion": 2, "manifests": []}), media_type::OCI_INDEX, Kind::Index),
            (json!({"schemaVersion": 2, "manifests": [descriptor()]}), media_type::DOCKER_LIST, Kind::Index),
            (json!({"mediaType": media_type::OCI_ARTIFACT, "blobs": [descriptor()]}), "", Kind::Artifact),
        ] {
            assert_eq!(parse(&value, content_type).expect("taken").kind, kind, "{value}");
        }
        assert_eq!(parse(&image(), "").expect("taken").artifact_type.as_deref(), Some("m/t"));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let with = |key: &str, value: Value| {
            let mut image = image();
            image[key] = value;
            image
        };
        for value in [
            with("manifests", json!([])),
            with("Layers", json!([])),
            with("MANIFESTS", json!([])),
            with("history", json!([])),
            with("signatures", json!([])),
        ] {
            let refused = parse(&value, media_type::OCI_MANIFEST).expect_err("refused");
            assert!(matches!(refused, ManifestError::Ambiguous(_)), "{value}: {refused}");
        }
        let both = with("manifests", json!([]));
        assert!(matches!(parse(&both, ""), Err(ManifestError::Ambiguous(_))));
        let twice = image().to_string().replacen('{', r#"{"layers": [], "#, 1);
        assert!(matches!(Manifest::parse(twice.as_bytes(), ""), Err(ManifestError::Form(_))));
        let index = with("mediaType", json!(media_type::OCI_INDEX));
        assert!(matches!(parse(&index, media_type::OCI_MANIFEST), Err(ManifestError::MediaType { .. })));
    }

    #[test]
    fn schema_1_and_nonsense_are_refused() {
        let old = json!({"schemaVersion": 1, "fsLayers": [], "history": []});
        assert_eq!(parse(&old, "").expect_err("refused"), ManifestError::Schema1);
        let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        assert_eq!(parse(&json!({}), signed).expect_err("refused"), ManifestError::Schema1);
        assert!(matches!(parse(&image(), "text/html"), Err(ManifestError::Unsupported(_))));
        let mut negative = image();
        negative["config"]["size"] = json!(-1);
        for bad in [json!([]), json!({}), json!({"schemaVersion": 2, "layers": []}), negative] {
            assert!(parse(&bad, media_type::OCI_MANIFEST).is_err(), "{bad}");
        }
        assert!(Manifest::parse(b"<html>", "").is_err());
    }
}

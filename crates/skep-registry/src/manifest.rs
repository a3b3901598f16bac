//! Manifests and indexes: Docker's schema 2 and its list, OCI's image manifest and index. Strict where it is about safety:
//! a document that could be read both as a manifest and as an index is refused (CVE-2021-41190), and so is a media type nobody
//! knows. A manifest of something that is not an image (a chart, a signature, a list of contents) is an [`ArtifactManifest`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_types::{Digest, ErrorKind, Platform};

/// The largest manifest or index that is read, in bytes; Docker's bound.
pub const MAX_MANIFEST_SIZE: u64 = 4 << 20;

/// The most layers that an image may have.
const MAX_LAYERS: usize = 1024;

/// Media types.
pub mod media_type {
    /// Docker's image manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's index.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// OCI's image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI's index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker's image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// OCI's image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An OCI layer that is not compressed.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Docker's oldest manifests; not supported.
    pub(super) const SCHEMA1: [&str; 2] = [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ];
    /// What the client asks for.
    pub(crate) const ACCEPTED: [&str; 4] = [DOCKER_MANIFEST, DOCKER_LIST, OCI_INDEX, OCI_MANIFEST];
}

/// What names a blob: its type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The blob's media type.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The platform of the image that a manifest describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
}

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// The image's configuration.
    pub config: Descriptor,
    /// The layers' blobs, base first.
    pub layers: Vec<Descriptor>,
}

/// The manifest of something that is not an image. What its blobs are is for others to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactManifest {
    /// What it is: its `artifactType`, or else the type of its configuration.
    pub kind: String,
    /// The manifest or index that it says something about.
    pub subject: Option<Descriptor>,
    /// Its configuration and its layers.
    pub blobs: Vec<Descriptor>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, usually one per platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The manifests.
    pub manifests: Vec<Descriptor>,
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// Of one image.
    Image(ImageManifest),
    /// Of something else.
    Artifact(ArtifactManifest),
    /// Of several.
    Index(Index),
}

/// Why a document is not a usable manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or the wrong JSON.
    #[error("invalid manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// Docker's oldest format.
    #[error(
        "support Docker Image manifest version 2, schema 1 has been removed. More information at \
         https://docs.docker.com/go/deprecated-image-specs/"
    )]
    Schema1,
    /// Not a media type of a manifest.
    #[error("unsupported manifest media type and no default available: {0}")]
    MediaType(String),
    /// The document names another type than the server.
    #[error("manifest has mediaType {document:?}, it was served as {served:?}")]
    TypeMismatch {
        /// In the document.
        document: String,
        /// By the server or by the descriptor that led here.
        served: String,
    },
    /// Both `manifests` and `config` or `layers`, or neither; or a key that some readers take for another.
    #[error("ambiguous manifest: it must have either \"config\" and \"layers\" or \"manifests\"")]
    Ambiguous,
    /// A layer of an unknown type.
    #[error("unsupported layer media type: {0}")]
    LayerType(String),
    /// Too many layers.
    #[error("the image has {0} layers, more than {MAX_LAYERS}")]
    TooManyLayers(usize),
}

impl ManifestError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ManifestError::Schema1 => ErrorKind::NotImplemented,
            ManifestError::Json(_)
            | ManifestError::MediaType(_)
            | ManifestError::TypeMismatch { .. }
            | ManifestError::Ambiguous
            | ManifestError::LayerType(_)
            | ManifestError::TooManyLayers(_) => ErrorKind::InvalidParameter,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u32>,
    #[serde(default)]
    media_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(default, deserialize_with = "null_as_default")]
    artifact_type: String,
    subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "null_as_default")]
    annotations: BTreeMap<String, String>,
    fs_layers: Option<serde::de::IgnoredAny>,
    #[serde(flatten)]
    others: BTreeMap<String, serde::de::IgnoredAny>,
}

/// Keys of a descriptor, and of the platform in it (OCI image spec, `descriptor.md`, `image-index.md`).
const DESCRIPTOR: [&str; 8] =
    ["mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType"];
const PLATFORM: [&str; 6] = ["architecture", "os", "os.version", "os.features", "variant", "features"];

/// Whether a key of these objects is one of `known` in other letters only: some readers take it for that, others don't.
fn has_lookalike(object: &Value, known: &[&str]) -> bool {
    let keys = object.as_object().into_iter().flat_map(|object| object.keys());
    keys.filter(|key| !known.contains(&key.as_str())).any(|key| known.iter().any(|known| looks_like(key, known)))
}

/// Refuses a document whose descriptors say one thing to this reader and another one to Go's.
fn check_descriptors(bytes: &[u8]) -> Result<(), ManifestError> {
    let document: Value = serde_json::from_slice(bytes)?;
    let single = ["config", "subject"].into_iter().filter_map(|key| document.get(key));
    let lists = ["layers", "manifests"].into_iter().filter_map(|key| document.get(key)?.as_array());
    let bad = |descriptor: &Value| {
        let platform = descriptor.get("platform").is_some_and(|platform| has_lookalike(platform, &PLATFORM));
        platform || has_lookalike(descriptor, &DESCRIPTOR)
    };
    match single.chain(lists.flatten()).any(bad) {
        true => Err(ManifestError::Ambiguous),
        false => Ok(()),
    }
}

/// Whether a key means `known` to a reader that doesn't tell letters apart, as Go's. What another program reads in a document has to be
/// what is read here.
fn looks_like(key: &str, known: &str) -> bool {
    key.to_lowercase().to_uppercase() == known.to_uppercase()
}

impl Manifest {
    /// Reads a document that was served, or described, as `served` (empty when nothing is known).
    pub fn parse(bytes: &[u8], served: &str) -> Result<Self, ManifestError> {
        let served = served.split(';').next().unwrap_or_default().trim();
        if media_type::SCHEMA1.contains(&served) {
            return Err(ManifestError::Schema1);
        }
        let document: Document = serde_json::from_slice(bytes)?;
        if document.schema_version == Some(1) || document.fs_layers.is_some() {
            return Err(ManifestError::Schema1);
        }
        let known = [
            "schemaVersion",
            "mediaType",
            "config",
            "layers",
            "manifests",
            "fsLayers",
            "artifactType",
            "subject",
            "annotations",
        ];
        if document.others.keys().any(|key| known.iter().any(|known| looks_like(key, known))) {
            return Err(ManifestError::Ambiguous);
        }
        check_descriptors(bytes)?;
        match effective_type(&document, served)? {
            media_type::DOCKER_MANIFEST | media_type::OCI_MANIFEST => match document {
                _ if document.manifests.is_some() => Err(ManifestError::Ambiguous),
                _ => of_one(document),
            },
            _ => match document {
                Document { config: None, layers: None, manifests: Some(manifests), .. } => {
                    Ok(Manifest::Index(Index { manifests }))
                }
                _ => Err(ManifestError::Ambiguous),
            },
        }
    }
}

/// One of the four supported types: the document's own, else the server's, else what the document looks like.
fn effective_type(document: &Document, served: &str) -> Result<&'static str, ManifestError> {
    let known = |text: &str| media_type::ACCEPTED.into_iter().find(|t| *t == text);
    let generic = matches!(served, "" | "application/json" | "text/plain" | "application/octet-stream");
    match (document.media_type.as_str(), known(served)) {
        ("", Some(served)) => Ok(served),
        ("", None) if !generic => Err(ManifestError::MediaType(served.to_owned())),
        ("", None) if document.manifests.is_some() => Ok(media_type::OCI_INDEX),
        ("", None) => Ok(media_type::OCI_MANIFEST),
        (own, _) => {
            let own = known(own).ok_or_else(|| ManifestError::MediaType(own.to_owned()))?;
            if !generic && own != served {
                return Err(ManifestError::TypeMismatch { document: own.to_owned(), served: served.to_owned() });
            }
            Ok(own)
        }
    }
}

/// An image has the configuration and the layers of one; an artifact has another configuration, or no layer of an
/// image. Something between is refused.
fn of_one(document: Document) -> Result<Manifest, ManifestError> {
    let Document { config: Some(config), layers: Some(layers), artifact_type, subject, annotations, .. } = document
    else {
        return Err(ManifestError::Ambiguous);
    };
    if layers.len() > MAX_LAYERS {
        return Err(ManifestError::TooManyLayers(layers.len()));
    }
    let image = matches!(
        config.media_type.as_str(),
        media_type::DOCKER_CONFIG | media_type::OCI_CONFIG | "application/octet-stream" | ""
    );
    let bad = layers.iter().find(|layer| !is_layer(&layer.media_type));
    match bad {
        None if image => return Ok(Manifest::Image(ImageManifest { config, layers })),
        // An image in a form that is not known here (encrypted layers, for one) is no artifact.
        Some(bad) if image && layers.iter().any(|layer| is_of_image(&layer.media_type)) => {
            return Err(ManifestError::LayerType(bad.media_type.clone()));
        }
        _ => {}
    }
    let kinds = [&artifact_type, &config.media_type].into_iter().find(|kind| !kind.is_empty()).cloned();
    let kind = kinds.unwrap_or_else(|| "application/octet-stream".to_owned());
    let blobs = std::iter::once(config).chain(layers).collect();
    Ok(Manifest::Artifact(ArtifactManifest { kind, subject, blobs, annotations }))
}

fn is_of_image(text: &str) -> bool {
    text.starts_with("application/vnd.oci.image.layer.") || text.starts_with("application/vnd.docker.image.rootfs.")
}

fn is_layer(text: &str) -> bool {
    matches!(
        text,
        "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
            | media_type::OCI_LAYER
            | "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
    )
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn image(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,{extra}"config":{{"mediaType":"{}","size":2,"digest":"{DIGEST}"}},
               "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","size":9,"digest":"{DIGEST}"}}]}}"#,
            media_type::OCI_CONFIG
        )
    }

    fn parse(text: &str, served: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(text.as_bytes(), served)
    }

    #[test]
    fn types_come_from_the_document_or_the_server() {
        assert!(matches!(parse(&image(""), media_type::OCI_MANIFEST), Ok(Manifest::Image(_))));
        assert!(matches!(parse(&image(""), "application/json; charset=utf-8"), Ok(Manifest::Image(_))));
        let own = image(&format!(r#""mediaType":"{}","#, media_type::OCI_MANIFEST));
        assert!(matches!(parse(&own, ""), Ok(Manifest::Image(_))));
        assert!(matches!(parse(&own, media_type::DOCKER_MANIFEST), Err(ManifestError::TypeMismatch { .. })));
        assert!(matches!(parse(&image(""), "text/html"), Err(ManifestError::MediaType(_))));
        let unknown = image(r#""mediaType":"application/x","#);
        assert!(matches!(parse(&unknown, ""), Err(ManifestError::MediaType(_))));
    }

    #[test]
    fn a_document_that_is_both_is_refused() {
        let both = image(r#""manifests":[],"#);
        for served in ["", media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_LIST] {
            assert!(matches!(parse(&both, served), Err(ManifestError::Ambiguous)), "{served}");
        }
        assert!(matches!(parse(&image(""), media_type::OCI_INDEX), Err(ManifestError::Ambiguous)));
        assert!(matches!(parse("{}", ""), Err(ManifestError::Ambiguous)));
    }

    #[test]
    fn keys_in_other_letters_are_refused() {
        let good = image(r#""annotations":{"Digest":"x"},"#);
        assert!(matches!(parse(&good, ""), Ok(Manifest::Image(_))));
        for (from, to) in [
            (r#""size":2"#, r#""size":2,"Size":3"#),
            (r#""size":9"#, r#""size":9,"DIGEST":"sha256:x""#),
            (r#""size":9"#, r#""size":9,"mediatype":"x""#),
            (r#""size":9"#, r#""size":9,"platform":{"OS":"linux"}"#),
            (r#""size":9"#, "\"\u{17f}ize\":1,\"size\":9"),
            (r#""layers""#, r#""Layers":[],"layers""#),
        ] {
            let text = good.replace(from, to);
            assert!(parse(&text, "").is_err(), "{text}");
        }
    }

    #[test]
    fn schema_1_is_refused_with_dockers_words() {
        for (text, served) in [
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, ""),
            ("{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        ] {
            let error = parse(text, served).expect_err("schema 1");
            assert!(
                error.to_string().starts_with("support Docker Image manifest version 2, schema 1 has been removed")
            );
        }
    }

    #[test]
    fn what_is_not_an_image_is_an_artifact() {
        const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
        let kind = |text: &str| match parse(text, media_type::OCI_MANIFEST) {
            Ok(Manifest::Artifact(artifact)) => format!("{} {}", artifact.kind, artifact.blobs.len()),
            other => format!("{other:?}"),
        };
        let chart = image("").replace(media_type::OCI_CONFIG, "application/vnd.cncf.helm.config.v1+json");
        assert_eq!(kind(&chart), "application/vnd.cncf.helm.config.v1+json 2");
        let signature = image("").replace(LAYER, "application/vnd.dev.cosign.simplesigning.v1+json");
        assert_eq!(kind(&signature), format!("{} 2", media_type::OCI_CONFIG));
        let subject = format!(r#""artifactType":"a/b","subject":{{"mediaType":"m","size":1,"digest":"{DIGEST}"}},"#);
        let empty = image(&subject).replace(media_type::OCI_CONFIG, "application/vnd.oci.empty.v1+json");
        assert_eq!(kind(&empty), "a/b 2");
        assert!(matches!(parse(&empty, ""), Ok(Manifest::Artifact(artifact)) if artifact.subject.is_some()));
        assert!(matches!(parse(&image(&subject), ""), Ok(Manifest::Image(_))), "an image may have a type, too");
        let encrypted = image("").replace(LAYER, &format!("{LAYER}+encrypted"));
        assert!(matches!(parse(&encrypted, ""), Err(ManifestError::LayerType(_))));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for bad in ["sha256:../../../../etc/passwd", "sha512:00", "", "sha256:ABCD"] {
            let text = image("").replace(DIGEST, bad);
            assert!(matches!(parse(&text, media_type::OCI_MANIFEST), Err(ManifestError::Json(_))), "{bad}");
        }
        let negative = image("").replace("\"size\":9", "\"size\":-9");
        assert!(matches!(parse(&negative, media_type::OCI_MANIFEST), Err(ManifestError::Json(_))));
    }
}

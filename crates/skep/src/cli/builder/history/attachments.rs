//! What is kept with a build that has ended: statements about it, and the documents of the images that it made.

use serde::Serialize;
use serde_json::Value;
use skep_buildkit::content;
use skep_buildkit::grpc::Channel;
use skep_buildkit::proto::moby::buildkit::v1::Descriptor;
use tonic::Status;

use super::record::Record;

/// Larger ones are not read.
const LIMIT: usize = 64 << 20;
/// What says what a statement states.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Attachment {
    pub(super) digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) platform: String,
    #[serde(rename = "Type")]
    pub(super) kind: String,
}

impl Attachment {
    fn of(descriptor: &Descriptor) -> Self {
        let stated = descriptor.annotations.get(PREDICATE_TYPE);
        Attachment {
            digest: descriptor.digest.clone(),
            platform: String::new(),
            kind: stated.unwrap_or(&descriptor.media_type).clone(),
        }
    }
}

/// All of a build's.
pub(super) async fn all(channel: &Channel, record: &Record) -> Result<Vec<Attachment>, Status> {
    let Some(result) = &record.wire().result else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let mut made: Vec<(&i64, &Descriptor)> = result.results.iter().collect();
    made.sort_by_key(|(number, _)| **number);
    for (_, top) in &made {
        found.push(Attachment::of(top));
    }
    found.extend(result.attestations.iter().map(Attachment::of));
    for (_, top) in made {
        let bytes = read(channel, &top.digest).await?;
        found.extend(below(&serde_json::from_slice(&bytes).unwrap_or_default()));
        for statements in attestation_manifests(&serde_json::from_slice(&bytes).unwrap_or_default()) {
            let manifest = read(channel, &statements.0).await?;
            found.extend(statements_of(&serde_json::from_slice(&manifest).unwrap_or_default(), &statements.1));
        }
    }
    Ok(found)
}

/// The bytes of one.
pub(super) async fn read(channel: &Channel, digest: &str) -> Result<Vec<u8>, Status> {
    content::blob(channel.clone(), digest, LIMIT).await
}

fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn entries(index: &Value) -> impl Iterator<Item = &Value> {
    index["manifests"].as_array().into_iter().flatten()
}

fn platform(entry: &Value) -> String {
    let parts = ["/platform/os", "/platform/architecture", "/platform/variant"].map(|path| text(entry, path));
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

/// The images that an index names.
fn below(index: &Value) -> Vec<Attachment> {
    let images = entries(index).filter(|entry| platform(entry) != "unknown/unknown");
    let attachment = |entry: &Value| Attachment {
        digest: text(entry, "/digest").to_owned(),
        platform: platform(entry),
        kind: text(entry, "/mediaType").to_owned(),
    };
    images.map(attachment).collect()
}

/// Manifests of statements, each with the platform of the image that they are about.
fn attestation_manifests(index: &Value) -> Vec<(String, String)> {
    let about = |entry: &Value| {
        let subject = entry["annotations"]["vnd.docker.reference.digest"].as_str()?;
        let image = entries(index).find(|image| text(image, "/digest") == subject)?;
        Some((text(entry, "/digest").to_owned(), platform(image)))
    };
    entries(index).filter_map(about).collect()
}

/// What a manifest of statements has.
fn statements_of(manifest: &Value, platform: &str) -> Vec<Attachment> {
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let attachment = |layer: &Value| Attachment {
        digest: text(layer, "/digest").to_owned(),
        platform: platform.to_owned(),
        kind: layer["annotations"][PREDICATE_TYPE].as_str().unwrap_or(text(layer, "/mediaType")).to_owned(),
    };
    layers.map(attachment).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_index_leads_to_images_and_statements() {
        let index = json!({"manifests": [
            {"mediaType": "m", "digest": "sha256:1", "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}},
            {"mediaType": "m", "digest": "sha256:2", "platform": {"os": "unknown", "architecture": "unknown"},
             "annotations": {"vnd.docker.reference.digest": "sha256:1"}},
        ]});
        let images = below(&index);
        assert_eq!((images.len(), images[0].platform.as_str()), (1, "linux/arm/v7"));
        assert_eq!(attestation_manifests(&index), [("sha256:2".to_owned(), "linux/arm/v7".to_owned())]);
        let manifest =
            json!({"layers": [{"digest": "sha256:3", "annotations": {PREDICATE_TYPE: "https://spdx.dev/Document"}}]});
        let found = statements_of(&manifest, "linux/arm/v7");
        assert_eq!((found[0].digest.as_str(), found[0].kind.as_str()), ("sha256:3", "https://spdx.dev/Document"));
        assert!(below(&Value::Null).is_empty());
    }
}

//! Manifests and indexes that a push makes.

use bytes::Bytes;
use serde::Serialize;
use skep_registry::{Descriptor, ImageManifest, digest_of, media_type};
use skep_types::Digest;

use super::super::{ImageError, Result};
use crate::model::image::LayerCompression;

/// A manifest or index, and what points to it.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Bytes,
}

impl Document {
    pub(in crate::images) fn new(media_type: String, bytes: Bytes) -> Self {
        let (digest, size) = (digest_of(&bytes), bytes.len() as u64);
        let descriptor = Descriptor { media_type, digest, size, platform: None, annotations: Default::default() };
        Document { descriptor, bytes }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewManifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Whether the manifest's layers are these blobs.
pub(super) fn same_layers(manifest: &ImageManifest, layers: &[Descriptor]) -> bool {
    let blob = |layer: &Descriptor| (layer.digest, layer.size);
    manifest.layers.iter().map(blob).eq(layers.iter().map(blob))
}

/// The manifest of an image whose layers are these blobs: of the kind that the image had (`kind`), else Docker's. Docker's kind has no
/// name for zstd that all clients know.
pub(super) fn manifest(
    kind: Option<&str>,
    compression: Option<LayerCompression>,
    config: Digest,
    config_size: u64,
    layers: &[Descriptor],
) -> Result<Document> {
    let docker = kind.is_none_or(|kind| kind == media_type::DOCKER_MANIFEST)
        && compression != Some(LayerCompression::Zstd)
        && !layers.iter().any(|layer| layer.media_type.ends_with("zstd"));
    let (own, config_type) = match docker {
        true => (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG),
        false => (media_type::OCI_MANIFEST, media_type::OCI_CONFIG),
    };
    let blob = |media_type: String, digest, size| Descriptor {
        media_type,
        digest,
        size,
        platform: None,
        annotations: Default::default(),
    };
    let layers = layers.iter().map(|l| blob(layer_type(&l.media_type, docker), l.digest, l.size)).collect();
    let config = blob(config_type.to_owned(), config, config_size);
    let manifest = NewManifest { schema_version: 2, media_type: own, config, layers };
    let bytes = serde_json::to_vec(&manifest).map_err(std::io::Error::from)?;
    Ok(Document::new(own.to_owned(), bytes.into()))
}

/// How a layer's blob is compressed, as its media type says.
pub(super) fn compression_of(media_type: &str) -> LayerCompression {
    match media_type {
        text if text.ends_with("zstd") => LayerCompression::Zstd,
        text if text.ends_with("gzip") => LayerCompression::Gzip,
        _ => LayerCompression::None,
    }
}

/// The media type of a layer, in Docker's or in OCI's words.
pub(crate) fn layer_type(media_type: &str, docker: bool) -> String {
    match (docker, compression_of(media_type)) {
        (true, LayerCompression::None) => "application/vnd.docker.image.rootfs.diff.tar",
        (true, LayerCompression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        (true, LayerCompression::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        (false, LayerCompression::None) => media_type::OCI_LAYER,
        (false, LayerCompression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
        (false, LayerCompression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
    }
    .to_owned()
}

/// What a layer that is uploaded is called until it stands in a manifest.
pub(in crate::images) fn uploaded_type(compression: LayerCompression) -> &'static str {
    match compression {
        LayerCompression::None => media_type::OCI_LAYER,
        LayerCompression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        LayerCompression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    }
}

/// The media type of a manifest: its own, else what pointed to it says, else OCI's.
pub(super) fn type_of(bytes: &[u8], described: Option<&Descriptor>) -> String {
    let document: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let own = document.as_ref().and_then(|document| document["mediaType"].as_str()).map(str::to_owned);
    let said = || described.map(|d| d.media_type.clone()).filter(|kind| !kind.is_empty());
    own.filter(|kind| !kind.is_empty()).or_else(said).unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned())
}

/// The index with its entries replaced by those of `new`, in the same order; an entry without one goes. The same bytes if nothing
/// changes. All else in it, annotations too, stays.
pub(super) fn index_with(index: Document, old: &[Descriptor], new: &[Option<Descriptor>]) -> Result<Document> {
    let digest = |d: &Descriptor| d.digest;
    if old.iter().map(digest).map(Some).eq(new.iter().map(|d| d.as_ref().map(digest))) {
        return Ok(index);
    }
    let broken = |e: serde_json::Error| ImageError::Invalid(format!("{}: {e}", index.descriptor.digest));
    let mut document: serde_json::Value = serde_json::from_slice(&index.bytes).map_err(broken)?;
    if let Some(entries) = document["manifests"].as_array_mut() {
        let mut replaced = Vec::new();
        for (entry, new) in entries.iter().zip(new) {
            let Some(new) = new else { continue };
            let mut entry = entry.clone();
            entry["digest"] = new.digest.to_string().into();
            entry["size"] = new.size.into();
            entry["mediaType"] = new.media_type.clone().into();
            replaced.push(entry);
        }
        *entries = replaced;
    }
    let bytes = serde_json::to_vec(&document).map_err(broken)?;
    Ok(Document::new(index.descriptor.media_type, bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::super::super::catalog::tests::id;
    use super::*;

    fn layer(digest: &str, media_type: &str) -> Descriptor {
        let media_type = media_type.to_owned();
        Descriptor { media_type, digest: id(digest), size: 5, platform: None, annotations: Default::default() }
    }

    fn kinds(kind: Option<&str>, compression: Option<LayerCompression>, layer_kind: &str) -> (String, String) {
        let document = manifest(kind, compression, id("cc"), 9, &[layer("aa", layer_kind)]).expect("a manifest");
        let json: serde_json::Value = serde_json::from_slice(&document.bytes).expect("json");
        assert_eq!(json["mediaType"], document.descriptor.media_type.as_str());
        (document.descriptor.media_type, json["layers"][0]["mediaType"].as_str().expect("a type").to_owned())
    }

    #[test]
    fn an_image_keeps_its_kind() {
        let gzip = uploaded_type(LayerCompression::Gzip);
        let docker_gzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        assert_eq!(kinds(None, None, gzip), (media_type::DOCKER_MANIFEST.to_owned(), docker_gzip.to_owned()));
        assert_eq!(
            kinds(Some(media_type::OCI_MANIFEST), None, docker_gzip),
            (media_type::OCI_MANIFEST.to_owned(), gzip.to_owned())
        );
        let zstd = uploaded_type(LayerCompression::Zstd);
        assert_eq!(
            kinds(Some(media_type::DOCKER_MANIFEST), Some(LayerCompression::Zstd), zstd),
            (media_type::OCI_MANIFEST.to_owned(), zstd.to_owned())
        );
    }

    #[test]
    fn an_index_changes_only_where_it_must() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","digest":"{}","size":1,"platform":{{"os":"linux","architecture":"a"}}}},
               {{"mediaType":"m","digest":"{}","size":1,"annotations":{{"x":"y"}}}}],"annotations":{{"k":"v"}}}}"#,
            id("aa"),
            id("bb")
        );
        let index = Document::new(media_type::OCI_INDEX.to_owned(), text.clone().into());
        let old = [layer("aa", "m"), layer("bb", "m")];
        let same: Vec<_> = old.iter().cloned().map(Some).collect();
        assert_eq!(index_with(index.clone(), &old, &same).expect("an index").bytes, text);
        let changed = index_with(index, &old, &[Some(layer("cc", "n")), None]).expect("an index");
        let json: serde_json::Value = serde_json::from_slice(&changed.bytes).expect("json");
        assert_eq!(json["manifests"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["manifests"][0]["digest"], id("cc").to_string());
        assert_eq!(json["manifests"][0]["platform"]["os"], "linux");
        assert_eq!(json["annotations"]["k"], "v");
    }
}

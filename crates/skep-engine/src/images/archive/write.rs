//! Images as one archive, in the form of Docker 25 and later: an OCI layout that also has Docker's `manifest.json`.
//!
//! The same images give the same bytes: entries are sorted, times are 0, and the layers are the archives that the images were
//! made from, not compressed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use skep_registry::{Descriptor, media_type};
use skep_store::{ChainId, StagedBlob};
use skep_types::{Digest, Platform, Reference};

use super::super::{Result, digest_of};
use super::oci::{NAME_ANNOTATION, REF_ANNOTATION};

/// An image to write.
#[derive(Debug, Clone)]
pub(in crate::images) struct OutgoingImage {
    /// Its id.
    pub(in crate::images) id: Digest,
    /// Its configuration, as it is stored.
    pub(in crate::images) config: Vec<u8>,
    /// Its platform.
    pub(in crate::images) platform: Platform,
    /// Its layers, base first.
    pub(in crate::images) layers: Vec<OutgoingLayer>,
}

/// Images of several platforms, or one, that go under the same tags.
#[derive(Debug, Clone)]
pub(in crate::images) struct OutgoingTarget {
    /// The first is what readers get that know no platforms. None if it is an artifact.
    pub(in crate::images) images: Vec<OutgoingImage>,
    /// Tags to write.
    pub(in crate::images) tags: BTreeSet<Reference>,
    /// What it is if it is no image.
    pub(in crate::images) artifact: Option<OutgoingArtifact>,
    /// What is attached to it, with the tag that leads to it, if one does.
    pub(in crate::images) attached: Vec<(OutgoingArtifact, Option<String>)>,
    /// The manifests that these are about.
    pub(in crate::images) subjects: BTreeMap<Digest, Vec<u8>>,
}

/// An artifact to write.
#[derive(Debug, Clone)]
pub(in crate::images) struct OutgoingArtifact {
    /// What points to its manifest.
    pub(in crate::images) descriptor: Descriptor,
    /// Its manifest.
    pub(in crate::images) manifest: Vec<u8>,
    /// Its blobs with their sizes.
    pub(in crate::images) blobs: Vec<(Arc<StagedBlob>, u64)>,
}

/// A layer to write.
#[derive(Debug, Clone, Copy)]
pub(in crate::images) struct OutgoingLayer {
    /// Digest of its archive.
    pub(in crate::images) diff_id: Digest,
    /// Where the store has it.
    pub(in crate::images) chain_id: ChainId,
    /// Bytes of its archive.
    pub(in crate::images) size: u64,
}

/// Writes the archive. `layer` opens a layer's archive.
pub(in crate::images) fn write(
    targets: &[OutgoingTarget],
    layer: impl Fn(&OutgoingLayer) -> Result<Box<dyn Read>>,
    out: impl Write,
) -> Result<()> {
    let mut tar = tar::Builder::new(out);
    let mut blobs: BTreeMap<Digest, Blob> = BTreeMap::new();
    let (mut index, mut attached) = (Vec::new(), Vec::new());
    for target in targets {
        let mut described = Vec::new();
        for image in &target.images {
            let (manifest, descriptor) = manifest(image)?;
            blobs.insert(image.id, Blob::Bytes(image.config.clone()));
            blobs.insert(descriptor.digest, Blob::Bytes(manifest));
            blobs.extend(image.layers.iter().map(|layer| (layer.diff_id, Blob::Layer(*layer))));
            described.push(descriptor);
        }
        let descriptor = match (<[Descriptor; 1]>::try_from(described), &target.artifact) {
            (_, Some(artifact)) => add_artifact(artifact, &mut blobs),
            (Ok([single]), None) => single,
            (Err(several), None) => {
                let (bytes, descriptor) = platform_index(several)?;
                blobs.insert(descriptor.digest, Blob::Bytes(bytes));
                descriptor
            }
        };
        index.extend(entries(&target.tags, &descriptor));
        // After everything that has a name: some readers take the first.
        for (artifact, tag) in &target.attached {
            let annotations = tag.iter().map(|tag| (REF_ANNOTATION.to_owned(), tag.clone())).collect();
            attached.push(Descriptor { annotations, ..add_artifact(artifact, &mut blobs) });
        }
        blobs.extend(target.subjects.iter().map(|(digest, raw)| (*digest, Blob::Bytes(raw.clone()))));
    }
    index.extend(attached);
    directory(&mut tar, "blobs/")?;
    directory(&mut tar, "blobs/sha256/")?;
    for (digest, blob) in &blobs {
        let name = format!("blobs/sha256/{}", digest.hex());
        match blob {
            Blob::Bytes(bytes) => file(&mut tar, &name, bytes)?,
            Blob::Kept(blob, size) => sized(&mut tar, &name, *size, blob.open()?)?,
            Blob::Layer(outgoing) => sized(&mut tar, &name, outgoing.size, layer(outgoing)?)?,
        }
    }
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": index});
    file(&mut tar, "index.json", &json_bytes(&index)?)?;
    file(&mut tar, "manifest.json", &json_bytes(&targets.iter().filter_map(legacy).collect::<Vec<_>>())?)?;
    file(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let repositories = repositories(targets);
    if !repositories.is_empty() {
        file(&mut tar, "repositories", &json_bytes(&repositories)?)?;
    }
    tar.into_inner()?.flush()?;
    Ok(())
}

/// Adds an artifact's manifest and blobs; returns what points to it.
fn add_artifact(artifact: &OutgoingArtifact, blobs: &mut BTreeMap<Digest, Blob>) -> Descriptor {
    blobs.insert(artifact.descriptor.digest, Blob::Bytes(artifact.manifest.clone()));
    blobs.extend(artifact.blobs.iter().map(|(blob, size)| (*blob.digest(), Blob::Kept(Arc::clone(blob), *size))));
    artifact.descriptor.clone()
}

enum Blob {
    Bytes(Vec<u8>),
    Kept(Arc<StagedBlob>, u64),
    Layer(OutgoingLayer),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutgoingManifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: BTreeMap::new() }
}

/// An image's manifest, and what points to it.
fn manifest(image: &OutgoingImage) -> Result<(Vec<u8>, Descriptor)> {
    let layers = image.layers.iter().map(|layer| descriptor(media_type::OCI_LAYER, layer.diff_id, layer.size));
    let manifest = OutgoingManifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST,
        config: descriptor(media_type::OCI_CONFIG, image.id, image.config.len() as u64),
        layers: layers.collect(),
    };
    let bytes = json_bytes(&manifest)?;
    let digest = digest_of(&bytes);
    let size = bytes.len() as u64;
    let platform = Some(image.platform.clone());
    Ok((bytes, Descriptor { platform, ..descriptor(media_type::OCI_MANIFEST, digest, size) }))
}

/// An index of images, in the order of their platforms, and what points to it.
fn platform_index(mut manifests: Vec<Descriptor>) -> Result<(Vec<u8>, Descriptor)> {
    manifests.sort_by_key(|manifest| (manifest.platform.as_ref().map(Platform::to_string), manifest.digest));
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests});
    let bytes = json_bytes(&index)?;
    let descriptor = descriptor(media_type::OCI_INDEX, digest_of(&bytes), bytes.len() as u64);
    Ok((bytes, descriptor))
}

/// The lines of the layout's index: one per tag.
fn entries(tags: &BTreeSet<Reference>, descriptor: &Descriptor) -> Vec<Descriptor> {
    if tags.is_empty() {
        return vec![descriptor.clone()];
    }
    let named = |tag: &Reference| {
        let annotations = [
            (NAME_ANNOTATION.to_owned(), tag.to_string()),
            (REF_ANNOTATION.to_owned(), tag.tag().unwrap_or_default().to_owned()),
        ];
        Descriptor { annotations: annotations.into(), ..descriptor.clone() }
    };
    tags.iter().map(named).collect()
}

/// The entry of `manifest.json`, which knows no platforms.
fn legacy(target: &OutgoingTarget) -> Option<serde_json::Value> {
    let image = target.images.first()?;
    let path = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let tags: Vec<String> = target.tags.iter().map(Reference::familiar).collect();
    let sources: BTreeMap<String, Descriptor> = image
        .layers
        .iter()
        .map(|layer| (layer.diff_id.to_string(), descriptor(media_type::OCI_LAYER, layer.diff_id, layer.size)))
        .collect();
    Some(json!({
        "Config": path(&image.id),
        "RepoTags": if tags.is_empty() { None } else { Some(tags) },
        "Layers": image.layers.iter().map(|layer| path(&layer.diff_id)).collect::<Vec<_>>(),
        "LayerSources": sources,
    }))
}

/// Repository to tag to topmost layer: what the oldest readers want.
fn repositories(targets: &[OutgoingTarget]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for target in targets {
        let Some(top) = target.images.first().and_then(|image| image.layers.last()) else { continue };
        for tag in &target.tags {
            let tags = all.entry(tag.familiar_name()).or_default();
            tags.insert(tag.tag().unwrap_or_default().to_owned(), top.diff_id.hex());
        }
    }
    all
}

pub(super) fn json_bytes(value: &impl Serialize) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(value).map_err(io::Error::from)?)
}

pub(super) fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

pub(super) fn directory(tar: &mut tar::Builder<impl Write>, name: &str) -> Result<()> {
    Ok(tar.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), name, io::empty())?)
}

pub(super) fn file(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> Result<()> {
    Ok(tar.append_data(&mut header(tar::EntryType::Regular, 0o644, bytes.len() as u64), name, bytes)?)
}

/// A file that is read while it is written. It must have the size that its header says.
fn sized(tar: &mut tar::Builder<impl Write>, name: &str, size: u64, content: impl Read) -> Result<()> {
    // GNU's header holds sizes above 8 GiB.
    let mut header = match size < 8 << 30 {
        true => header(tar::EntryType::Regular, 0o644, size),
        false => {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(size);
            header
        }
    };
    let mut exact = Exact { content, left: size };
    tar.append_data(&mut header, name, &mut exact)?;
    if exact.left != 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{name}: the layer is too short")).into());
    }
    Ok(())
}

/// Refuses to give more or less than was promised.
struct Exact<R> {
    content: R,
    left: u64,
}

impl<R: Read> Read for Exact<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(out)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, "the layer is longer than its record says")),
        }
        Ok(count)
    }
}

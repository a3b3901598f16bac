//! An OCI image layout in a tar file (OCI image spec, `image-layout.md`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use skep_registry::{Descriptor, ImageManifest, MAX_MANIFEST_SIZE, Manifest, ManifestError};
use skep_types::{Digest, Platform, Reference};

use super::super::config::MAX_CONFIG_SIZE;
use super::super::target::{Member, Target};
use super::super::{ImageError, Result, platform};
use super::docker::parse_tag;
use super::tarball::{Slice, Tarball};
use super::{Archived, ArchivedEntry, ArchivedImage, MAX_IMAGES, artifacts};
use crate::model::image::ImageId;

/// How deep indexes may be nested.
const MAX_DEPTH: usize = 4;
/// Where containerd and Docker put the whole name, with registry and tag.
pub(super) const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// OCI's own; often only a tag.
pub(super) const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize)]
struct Layout {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

pub(super) fn read(tarball: &Tarball, wished: Option<&Platform>) -> Result<Archived> {
    let layout = tarball.read("oci-layout", 4096)?;
    let layout: Layout = serde_json::from_slice(&layout).map_err(|e| broken("oci-layout", &e))?;
    if !layout.version.starts_with("1.") {
        return Err(ImageError::Invalid(format!("invalid archive: OCI layout version {:?}", layout.version)));
    }
    let index = match Manifest::parse(&tarball.read("index.json", MAX_MANIFEST_SIZE)?, "") {
        Ok(Manifest::Index(index)) => index,
        Ok(Manifest::Image(_) | Manifest::Artifact(_)) => return Err(broken("index.json", &"not an index")),
        Err(e) => return Err(broken("index.json", &e)),
    };
    if index.manifests.len() > MAX_IMAGES {
        return Err(ImageError::Invalid(format!("invalid archive: more than {MAX_IMAGES} images")));
    }
    let mut archived = Archived::default();
    let mut loose = Vec::new();
    for descriptor in &index.manifests {
        if let Some(artifact) = artifacts::read(tarball, descriptor)? {
            loose.push(artifact);
            continue;
        }
        let mut found = Found::default();
        collect(tarball, descriptor, &mut found, 0)?;
        let tag = tag_of(descriptor);
        let target = target(descriptor, found, wished, tag.as_ref(), &mut archived)?;
        // One entry per tag is how several tags of an image are written.
        archived.entries.push(ArchivedEntry { tag, target });
    }
    artifacts::settle(tarball, loose, &mut archived)?;
    forget_nameless(&mut archived.entries);
    Ok(archived)
}

/// What has a name needs no entry without one, and no two without one.
fn forget_nameless(entries: &mut Vec<ArchivedEntry>) {
    let mut seen: BTreeSet<ImageId> =
        entries.iter().filter(|entry| entry.tag.is_some()).filter_map(|entry| entry.target.first()).collect();
    entries.retain(|entry| entry.tag.is_some() || entry.target.first().is_some_and(|id| seen.insert(id)));
}

/// What a descriptor of the layout leads to.
#[derive(Default)]
struct Found {
    /// Indexes, the outermost first.
    indexes: BTreeMap<Digest, Vec<u8>>,
    /// Images that are in the archive, each with its manifest's descriptor.
    images: Vec<(Descriptor, ArchivedImage)>,
}

/// Follows a descriptor through indexes. What an index names and the archive doesn't have is a platform that was not saved; what
/// is not an image (an attestation) is passed over.
fn collect(tarball: &Tarball, descriptor: &Descriptor, found: &mut Found, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(ImageError::Invalid("invalid archive: indexes are nested too deep".to_owned()));
    }
    let nested = depth > 0;
    let is_here = |descriptor: &Descriptor| tarball.find(&path_of(descriptor)).is_some();
    let unknown = descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
    if nested && (unknown || !is_here(descriptor)) {
        return Ok(());
    }
    let raw = blob(tarball, descriptor, MAX_MANIFEST_SIZE)?;
    match Manifest::parse(&raw, &descriptor.media_type) {
        Ok(Manifest::Image(manifest)) if nested && !is_here(&manifest.config) => Ok(()),
        Ok(Manifest::Image(manifest)) => {
            if found.images.len() >= MAX_IMAGES {
                return Err(ImageError::Invalid(format!("invalid archive: more than {MAX_IMAGES} images")));
            }
            let mut image = image(tarball, &manifest)?;
            image.documents.insert(descriptor.digest, raw);
            found.images.push((Descriptor { annotations: BTreeMap::new(), ..descriptor.clone() }, image));
            Ok(())
        }
        Ok(Manifest::Index(index)) => {
            // The same index twice would be the same images twice.
            if found.indexes.insert(descriptor.digest, raw).is_none() {
                index.manifests.iter().try_for_each(|inner| collect(tarball, inner, found, depth + 1))?;
            }
            Ok(())
        }
        Ok(Manifest::Artifact(_)) => Ok(()),
        Err(ManifestError::LayerType(_)) if nested => Ok(()),
        Err(e) => Err(broken(&descriptor.digest.to_string(), &e)),
    }
}

fn image(tarball: &Tarball, manifest: &ImageManifest) -> Result<ArchivedImage> {
    let config = blob(tarball, &manifest.config, MAX_CONFIG_SIZE)?;
    let layers: Vec<Slice> = manifest.layers.iter().map(|layer| open(tarball, layer)).collect::<Result<_>>()?;
    ArchivedImage::new(config, layers)
}

/// Brings the images that were found into `archived`: all, or the best for `wished`.
fn target(
    descriptor: &Descriptor,
    found: Found,
    wished: Option<&Platform>,
    tag: Option<&Reference>,
    archived: &mut Archived,
) -> Result<Target> {
    let Found { indexes, mut images } = found;
    if let Some(wished) = wished {
        let rate = |(manifest, image): &(Descriptor, ArchivedImage)| {
            let own = image.parsed.platform();
            platform::rate(wished, manifest.platform.as_ref().unwrap_or(&own))
        };
        let best = images.into_iter().filter(|image| rate(image).is_some()).max_by_key(|image| rate(image));
        let name = tag.map_or_else(|| descriptor.digest.to_string(), Reference::familiar);
        images = vec![best.ok_or_else(|| ImageError::OtherPlatform { name, platform: wished.clone() })?];
    }
    if images.is_empty() {
        return Err(broken(&descriptor.digest.to_string(), &"it leads to no image in the archive"));
    }
    let mut target = Target {
        descriptor: Some(Descriptor { annotations: BTreeMap::new(), ..descriptor.clone() }),
        images: Vec::new(),
    };
    for (manifest, mut image) in images {
        if !target.has(&image.id) {
            target.images.push(Member { id: image.id, manifest: Some(manifest) });
        }
        image.documents.extend(indexes.clone());
        archived.add(image)?;
    }
    Ok(target)
}

/// The name in a descriptor's annotations. A tag alone names nothing.
pub(super) fn tag_of(descriptor: &Descriptor) -> Option<Reference> {
    let annotation = |key: &str| descriptor.annotations.get(key).map(String::as_str);
    let name =
        annotation(NAME_ANNOTATION).or_else(|| annotation(REF_ANNOTATION).filter(|name| name.contains([':', '/'])))?;
    parse_tag(name).ok()
}

fn path_of(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", descriptor.digest.hex())
}

pub(super) fn open(tarball: &Tarball, descriptor: &Descriptor) -> Result<Slice> {
    let slice = tarball.open(&path_of(descriptor))?;
    if slice.len() != descriptor.size {
        return Err(broken(&descriptor.digest.to_string(), &"its size is not the one in the manifest"));
    }
    Ok(slice)
}

/// A small blob whose digest is right.
pub(super) fn blob(tarball: &Tarball, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
    open(tarball, descriptor)?;
    let bytes = tarball.read(&path_of(descriptor), limit)?;
    match super::super::digest_of(&bytes) == descriptor.digest {
        true => Ok(bytes),
        false => Err(broken(&descriptor.digest.to_string(), &"its content has another digest")),
    }
}

fn broken(what: &str, why: &dyn std::fmt::Display) -> ImageError {
    ImageError::Invalid(format!("invalid archive: {what}: {why}"))
}

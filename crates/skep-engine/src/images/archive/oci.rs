//! An OCI image layout in a tar file (OCI image spec, `image-layout.md`).

use serde::Deserialize;
use skep_registry::{Descriptor, ImageManifest, MAX_MANIFEST_SIZE, Manifest};
use skep_types::{Digest, Platform, Reference};

use super::super::config::MAX_CONFIG_SIZE;
use super::super::{ImageError, Result, platform};
use super::docker::parse_tag;
use super::tarball::{Slice, Tarball};
use super::{ArchivedImage, MAX_IMAGES};

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

pub(super) fn read(tarball: &Tarball, wished: Option<&Platform>) -> Result<Vec<ArchivedImage>> {
    let layout = tarball.read("oci-layout", 4096)?;
    let layout: Layout = serde_json::from_slice(&layout).map_err(|e| broken("oci-layout", &e))?;
    if !layout.version.starts_with("1.") {
        return Err(ImageError::Invalid(format!("invalid archive: OCI layout version {:?}", layout.version)));
    }
    let index = match Manifest::parse(&tarball.read("index.json", MAX_MANIFEST_SIZE)?, "") {
        Ok(Manifest::Index(index)) => index,
        Ok(Manifest::Image(_)) => return Err(broken("index.json", &"not an index")),
        Err(e) => return Err(broken("index.json", &e)),
    };
    if index.manifests.len() > MAX_IMAGES {
        return Err(ImageError::Invalid(format!("invalid archive: more than {MAX_IMAGES} images")));
    }
    let mut images: Vec<ArchivedImage> = Vec::new();
    for descriptor in &index.manifests {
        let Some((digest, raw, manifest)) = find_image(tarball, descriptor, wished, 0)? else { continue };
        let tags: Vec<Reference> = tag_of(descriptor).into_iter().collect();
        // One entry per tag is how several tags of an image are written.
        match images.iter_mut().find(|image| image.manifest.as_ref().is_some_and(|(known, _)| *known == digest)) {
            Some(image) => image.tags.extend(tags),
            None => images.push(image(tarball, digest, raw, &manifest, tags)?),
        }
    }
    Ok(images)
}

fn image(
    tarball: &Tarball,
    digest: Digest,
    raw: Vec<u8>,
    manifest: &ImageManifest,
    tags: Vec<Reference>,
) -> Result<ArchivedImage> {
    let config = blob(tarball, &manifest.config, MAX_CONFIG_SIZE)?;
    let layers: Vec<Slice> = manifest.layers.iter().map(|layer| open(tarball, layer)).collect::<Result<_>>()?;
    Ok(ArchivedImage { manifest: Some((digest, raw)), ..ArchivedImage::new(config, layers, tags)? })
}

/// The manifest that a descriptor leads to, through indexes. What is not an image (an attestation) is passed over.
fn find_image(
    tarball: &Tarball,
    descriptor: &Descriptor,
    wished: Option<&Platform>,
    depth: usize,
) -> Result<Option<(Digest, Vec<u8>, ImageManifest)>> {
    if depth > MAX_DEPTH {
        return Err(ImageError::Invalid("invalid archive: indexes are nested too deep".to_owned()));
    }
    let raw = blob(tarball, descriptor, MAX_MANIFEST_SIZE)?;
    match Manifest::parse(&raw, &descriptor.media_type).map_err(|e| broken(&descriptor.digest.to_string(), &e))? {
        Manifest::Image(manifest) => Ok(Some((descriptor.digest, raw, manifest))),
        Manifest::Index(index) => {
            let host = Platform::host();
            let best = platform::choose(&index, wished.unwrap_or(&host));
            let only = match index.manifests.as_slice() {
                [only] if wished.is_none() => Some(only),
                _ => None,
            };
            match best.or(only) {
                Some(descriptor) => find_image(tarball, descriptor, wished, depth + 1),
                None => Err(ImageError::NoSuchPlatform(wished.unwrap_or(&host).clone())),
            }
        }
    }
}

/// The name in a descriptor's annotations. A tag alone names nothing.
fn tag_of(descriptor: &Descriptor) -> Option<Reference> {
    let annotation = |key: &str| descriptor.annotations.get(key).map(String::as_str);
    let name =
        annotation(NAME_ANNOTATION).or_else(|| annotation(REF_ANNOTATION).filter(|name| name.contains([':', '/'])))?;
    parse_tag(name).ok()
}

fn path_of(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", descriptor.digest.hex())
}

fn open(tarball: &Tarball, descriptor: &Descriptor) -> Result<Slice> {
    let slice = tarball.open(&path_of(descriptor))?;
    if slice.len() != descriptor.size {
        return Err(broken(&descriptor.digest.to_string(), &"its size is not the one in the manifest"));
    }
    Ok(slice)
}

/// A small blob whose digest is right.
fn blob(tarball: &Tarball, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
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

//! What is no image in a layout: artifacts with a name of their own, and those that say something about an image of the archive.
//!
//! The image's manifest in an archive is not the one that was signed, if its layers are compressed otherwise. The one that was signed is
//! there too, as a blob: it leads to the same configuration.

use std::collections::BTreeMap;

use skep_registry::{Descriptor, MAX_MANIFEST_SIZE, Manifest};
use skep_types::Digest;

use super::super::artifact::{Artifact, Way};
use super::super::target::{Member, Target};
use super::super::{ImageError, Result, digest_of};
use super::oci::{REF_ANNOTATION, blob, open, tag_of};
use super::tarball::{Slice, Tarball};
use super::{Archived, ArchivedEntry, MAX_IMAGES};
use crate::model::image::ImageId;

/// How deep a subject may be nested in indexes.
const MAX_DEPTH: usize = 4;

/// An artifact of an archive.
#[derive(Debug)]
pub(in crate::images) struct ArchivedArtifact {
    pub(in crate::images) artifact: Artifact,
    /// Its manifest.
    pub(in crate::images) raw: Vec<u8>,
    /// Its blobs, as many as the record names.
    pub(in crate::images) blobs: Vec<Slice>,
    /// The image or artifact of the archive that it belongs to, the manifest that it is about, and how it is found.
    pub(in crate::images) attached: Option<(ImageId, Digest, Way)>,
}

/// One whose place is not known yet.
pub(super) struct Loose {
    descriptor: Descriptor,
    found: ArchivedArtifact,
    about: Option<(Digest, Way)>,
}

/// The artifact that an entry of the layout leads to; nothing if that is something else.
pub(super) fn read(tarball: &Tarball, descriptor: &Descriptor) -> Result<Option<Loose>> {
    let raw = blob(tarball, descriptor, MAX_MANIFEST_SIZE)?;
    let Ok(Manifest::Artifact(manifest)) = Manifest::parse(&raw, &descriptor.media_type) else { return Ok(None) };
    let artifact = Artifact::read(&raw, &descriptor.media_type)?;
    let blobs: Vec<Slice> = artifact.blobs.iter().map(|blob| open(tarball, blob)).collect::<Result<_>>()?;
    let by_tag = || {
        let tag = descriptor.annotations.get(REF_ANNOTATION)?;
        Some((subject_of(tag)?, Way::Tag(tag.clone())))
    };
    let about = manifest.subject.map(|subject| (subject.digest, Way::Subject)).or_else(by_tag);
    let found = ArchivedArtifact { artifact, raw, blobs, attached: None };
    Ok(Some(Loose { descriptor: descriptor.clone(), found, about }))
}

/// The manifest that a tag like `sha256-HEX.sig` is about.
fn subject_of(tag: &str) -> Option<Digest> {
    let (hex, _) = tag.strip_prefix("sha256-")?.split_once('.')?;
    Digest::from_hex(hex).ok()
}

/// Finds out what each belongs to: an image, another artifact, or nothing but its name.
pub(super) fn settle(tarball: &Tarball, mut loose: Vec<Loose>, archived: &mut Archived) -> Result<()> {
    if loose.len() > MAX_IMAGES {
        return Err(ImageError::Invalid(format!("invalid archive: more than {MAX_IMAGES} artifacts")));
    }
    let (named, rest): (Vec<_>, Vec<_>) =
        loose.into_iter().partition(|one| one.about.is_none() || tag_of(&one.descriptor).is_some());
    named.into_iter().for_each(|one| one.stand_alone(archived));
    loose = rest;
    // What is about an artifact waits for that.
    loop {
        let before = loose.len();
        let mut waiting = Vec::new();
        for mut one in loose {
            let owner = one.about.as_ref().and_then(|(subject, _)| owner_of(tarball, archived, subject));
            match (owner, one.about.take()) {
                (Some(owner), Some((subject, by))) => {
                    one.found.attached = Some((owner, subject, by));
                    archived.artifacts.push(one.found);
                }
                (_, about) => waiting.push(Loose { about, ..one }),
            }
        }
        loose = waiting;
        if loose.is_empty() || loose.len() == before {
            break;
        }
    }
    loose.into_iter().for_each(|one| one.stand_alone(archived));
    Ok(())
}

impl Loose {
    fn stand_alone(self, archived: &mut Archived) {
        let Loose { descriptor, found, .. } = self;
        let manifest = found.artifact.manifest.clone();
        let target = Target {
            descriptor: Some(manifest.clone()),
            images: vec![Member { id: manifest.digest, manifest: Some(manifest.clone()) }],
        };
        archived.entries.push(ArchivedEntry { tag: tag_of(&descriptor), target });
        let known = archived.artifacts.iter().any(|other| other.artifact.manifest.digest == manifest.digest);
        if !known {
            archived.artifacts.push(found);
        }
    }
}

/// The image or artifact of the archive that a manifest leads to.
fn owner_of(tarball: &Tarball, archived: &mut Archived, subject: &Digest) -> Option<ImageId> {
    let of_artifact = archived.artifacts.iter().find(|one| one.artifact.manifest.digest == *subject);
    if let Some(one) = of_artifact {
        return Some(one.attached.as_ref().map_or(*subject, |(owner, ..)| *owner));
    }
    let mut documents = BTreeMap::new();
    let owner = image_behind(tarball, archived, subject, &mut documents, 0)?;
    let image = archived.images.iter_mut().find(|image| image.id == owner)?;
    image.documents.extend(documents);
    Some(owner)
}

fn image_behind(
    tarball: &Tarball,
    archived: &Archived,
    digest: &Digest,
    documents: &mut BTreeMap<Digest, Vec<u8>>,
    depth: usize,
) -> Option<ImageId> {
    let name = format!("blobs/sha256/{}", digest.hex());
    let raw = tarball.read(&name, MAX_MANIFEST_SIZE).ok().filter(|raw| digest_of(raw) == *digest)?;
    let owner = match Manifest::parse(&raw, "").ok()? {
        Manifest::Image(manifest) => {
            archived.images.iter().map(|image| image.id).find(|id| *id == manifest.config.digest)
        }
        Manifest::Index(index) if depth < MAX_DEPTH => {
            let inner = index.manifests.iter().take(MAX_IMAGES);
            inner.filter_map(|entry| image_behind(tarball, archived, &entry.digest, documents, depth + 1)).next()
        }
        Manifest::Index(_) | Manifest::Artifact(_) => None,
    }?;
    documents.insert(*digest, raw);
    Some(owner)
}

//! Manifests of what is not an image: pulled for their own sake (a chart, a model), or because they say something about an image (a
//! signature, a list of its contents). Their blobs are kept as they came and never unpacked.
//!
//! The id of an artifact is the digest of its manifest: the configuration, which names an image, is the same empty document for most of
//! them. What is attached to an image belongs to it: it goes where the image goes, and is gone with it.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde::{Deserialize, Serialize};
use skep_registry::{Descriptor, FetchedManifest, Manifest};
use skep_store::StagedBlob;
use skep_types::{Digest, Platform};

use super::catalog::ImageRecord;
use super::change::Writer;
use super::{ImageError, Result, digest_of};
use crate::model::image::ImageId;

/// When its author made it (OCI image spec, `annotations.md`).
const CREATED: &str = "org.opencontainers.image.created";

/// A manifest whose blobs are all in the store. As it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Artifact {
    /// What points to the manifest.
    pub(super) manifest: Descriptor,
    /// What it is.
    pub(super) kind: String,
    /// Its configuration and its layers.
    pub(super) blobs: Vec<Descriptor>,
}

/// An artifact that says something about an image. As it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attached {
    /// The manifest or index that it is about.
    pub(super) subject: Digest,
    /// How it is found there.
    pub(super) by: Way,
    pub(super) artifact: Artifact,
}

/// How an attached artifact is found in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Way {
    /// The index lists it beside the image.
    Index,
    /// Its manifest names the subject.
    Subject,
    /// A tag that is made of the subject's digest.
    Tag(String),
}

/// An artifact with its bytes, not yet in the catalog.
#[derive(Debug)]
pub(super) struct NewArtifact {
    pub(super) artifact: Artifact,
    pub(super) raw: Vec<u8>,
    pub(super) staged: Vec<StagedBlob>,
}

/// What is going to be attached to an image.
#[derive(Debug)]
pub(super) struct NewAttached {
    pub(super) subject: Digest,
    pub(super) by: Way,
    pub(super) new: NewArtifact,
}

impl Artifact {
    /// Of a manifest that was served.
    pub(super) fn of(served: &FetchedManifest) -> Result<Self> {
        let (media_type, size) = (served.media_type.clone(), served.raw.len() as u64);
        Self::described(&served.manifest, &media_type, served.digest, size)
    }

    /// Of a document's bytes.
    pub(super) fn read(raw: &[u8], media_type: &str) -> Result<Self> {
        let manifest = Manifest::parse(raw, media_type).map_err(|e| ImageError::Invalid(e.to_string()))?;
        Self::described(&manifest, media_type, digest_of(raw), raw.len() as u64)
    }

    fn described(manifest: &Manifest, media_type: &str, digest: Digest, size: u64) -> Result<Self> {
        let Manifest::Artifact(artifact) = manifest else {
            return Err(ImageError::Invalid(format!("{digest} is no artifact")));
        };
        let media_type = media_type.to_owned();
        let manifest = Descriptor { media_type, digest, size, platform: None, annotations: BTreeMap::new() };
        // The same blob may stand there twice.
        let mut blobs: Vec<Descriptor> = Vec::new();
        for blob in &artifact.blobs {
            if blobs.iter().all(|known| known.digest != blob.digest) {
                blobs.push(Descriptor { annotations: BTreeMap::new(), ..blob.clone() });
            }
        }
        Ok(Artifact { manifest, kind: artifact.kind.clone(), blobs })
    }

    /// Its manifest and its blobs.
    pub(super) fn documents(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.manifest).chain(&self.blobs)
    }

    /// Bytes of its blobs.
    pub(super) fn size(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }
}

impl NewArtifact {
    /// Adds it to what will be committed, as something that names can lead to.
    pub(super) fn add_to(
        self,
        manifests: Vec<(Digest, Vec<u8>)>,
        attached: Vec<NewAttached>,
        writer: &mut Writer,
    ) -> ImageId {
        let id = self.artifact.manifest.digest;
        let created = match Manifest::parse(&self.raw, &self.artifact.manifest.media_type) {
            Ok(Manifest::Artifact(artifact)) => artifact.annotations.get(CREATED).cloned(),
            Ok(Manifest::Image(_) | Manifest::Index(_)) | Err(_) => None,
        };
        let record = ImageRecord {
            diff_ids: Vec::new(),
            chain_ids: Vec::new(),
            layer_sizes: Vec::new(),
            platform: nowhere(),
            created: created.and_then(|text| DateTime::parse_from_rfc3339(&text).ok()),
            labels: None,
            parent: None,
            manifests: manifests.iter().map(|(digest, _)| *digest).chain([id]).collect(),
            last_tagged: None,
            detached: false,
            attached: attached.iter().map(NewAttached::record).collect(),
            artifact: Some(self.artifact.clone()),
        };
        writer.draft.put_image(id, record);
        writer.blobs.extend(manifests);
        self.store_in(writer);
        attached.into_iter().for_each(|attached| attached.new.store_in(writer));
        id
    }

    fn store_in(self, writer: &mut Writer) {
        writer.blobs.push((self.artifact.manifest.digest, self.raw));
        writer.staged.extend(self.staged);
    }
}

impl NewAttached {
    /// What will be stored about it.
    pub(super) fn record(&self) -> Attached {
        Attached { subject: self.subject, by: self.by.clone(), artifact: self.new.artifact.clone() }
    }

    /// Brings its bytes to what will be committed; the record is the image's.
    pub(super) fn store_in(self, writer: &mut Writer) {
        self.new.store_in(writer);
    }
}

/// The platform of what runs nowhere.
fn nowhere() -> Platform {
    Platform { os: String::new(), architecture: String::new(), variant: String::new() }
}

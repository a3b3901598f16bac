//! Images on their way from one engine to another.

use bytes::Bytes;
use skep_registry::Descriptor;
use skep_types::{Digest, Reference};

use super::image::ImageId;

/// All of an image, under one name, but its layers' contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The name; absent if the image was asked for by its id.
    pub name: Option<Reference>,
    /// The manifest or index that the name stands for.
    pub descriptor: Option<Descriptor>,
    /// The images, the one that the name means first.
    pub images: Vec<OutlinedImage>,
    /// Configurations, manifests and indexes, and the blobs of artifacts.
    pub documents: Vec<Bytes>,
    /// Artifacts: the one that the name stands for, and those that are attached to images.
    pub artifacts: Vec<OutlinedArtifact>,
}

/// One artifact of an outline; its bytes are among the documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlinedArtifact {
    /// What points to its manifest.
    pub descriptor: Descriptor,
    /// The image or artifact that it belongs to, if it is not here for its own sake.
    pub owner: Option<ImageId>,
    /// The manifest that it is about.
    pub subject: Option<Digest>,
    /// The tag by which it is found, if it is by one.
    pub tag: Option<String>,
    /// Whether the index lists it that the subject is in.
    pub listed: bool,
}

/// One image of an outline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlinedImage {
    /// Digest of its configuration.
    pub id: ImageId,
    /// Its manifest.
    pub descriptor: Option<Descriptor>,
    /// Its layers, base first.
    pub layers: Vec<OutlinedLayer>,
}

/// One layer of an outline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlinedLayer {
    /// Digest of its archive.
    pub diff_id: Digest,
    /// Of the stack that ends with it.
    pub chain_id: Digest,
    /// Bytes of its archive.
    pub size: u64,
}

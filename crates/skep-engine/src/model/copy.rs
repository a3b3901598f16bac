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
    /// Configurations, manifests and indexes.
    pub documents: Vec<Bytes>,
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

//! Copies of images between engines: skep's own endpoints below `/skep/`, which Docker's API doesn't have.
//!
//! | endpoint | body → answer |
//! |---|---|
//! | `GET /skep/images/{name}/outline` | → [`ImageOutline`]: all of an image but its layers' contents |
//! | `POST /skep/layers/lacking` | [`LayerStacks`] → the ones of them that the engine doesn't have; those that it has stay for a while |
//! | `GET /skep/layers/{chain id}` | → the layer's archive, compressed with zstd |
//! | `PUT /skep/layers/{diff id}?parent={chain id}` | the archive, compressed or not → 201; it stays for a while |
//! | `POST /skep/images` | [`ImageOutline`], whose layers are there → [`CopiedImages`] |

use serde::{Deserialize, Serialize};

use crate::Descriptor;

/// All of an image, under one name, but its layers' contents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageOutline {
    /// The name in full, `docker.io/library/busybox:latest`; empty if the image was asked for by its id.
    pub name: String,
    /// The manifest or index that the name stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// The images, the one that the name means first.
    pub images: Vec<OutlinedImage>,
    /// Configurations, manifests and indexes, and the blobs of artifacts, each in base64.
    pub documents: Vec<String>,
    /// Artifacts: the one that the name stands for, and those that are attached to images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<OutlinedArtifact>,
}

/// One artifact of an outline; its bytes are among the documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct OutlinedArtifact {
    /// What points to its manifest.
    pub descriptor: Descriptor,
    /// The image or artifact that it belongs to; empty if it is there for its own sake.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// The manifest that it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The tag by which it is found, if it is by one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// Whether the index lists it that the subject is in.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub listed: bool,
}

/// One image of an outline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct OutlinedImage {
    /// Digest of its configuration.
    pub id: String,
    /// Its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Its layers, base first.
    pub layers: Vec<OutlinedLayer>,
}

/// One layer of an outline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct OutlinedLayer {
    /// Digest of its archive.
    pub diff_id: String,
    /// Of the stack that ends with it.
    pub chain_id: String,
    /// Bytes of its archive.
    pub size: i64,
}

/// Stacks of layers, by chain id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LayerStacks {
    /// Chain ids.
    pub layers: Vec<String>,
}

/// Images that were copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CopiedImages {
    /// Their ids.
    pub ids: Vec<String>,
}

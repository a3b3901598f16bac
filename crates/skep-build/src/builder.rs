//! What a build is given besides its request, and what comes of it.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use skep_types::{Digest, Platform, Reference};
use tokio_util::sync::CancellationToken;

use crate::event::Events;
use crate::services::Services;
use crate::worker::Stack;

/// What belongs to one build while it goes on.
#[derive(Clone)]
pub struct Job {
    /// The client.
    pub services: Arc<dyn Services>,
    /// Who hears how it goes.
    pub events: Events,
    /// Ends the build. Dropping the build's future does too.
    pub cancel: CancellationToken,
    /// Results of other builds, which [`NamedContext::Result`](crate::request::NamedContext::Result) names.
    pub inputs: BTreeMap<String, Arc<Built>>,
}

/// What a build made. The layers stay as long as it lives.
#[derive(Debug)]
pub struct Built {
    /// One for each platform, in the order of the request.
    pub images: Vec<BuiltImage>,
}

/// An image, not yet stored or sent anywhere.
#[derive(Debug)]
pub struct BuiltImage {
    /// What it is for.
    pub platform: Platform,
    /// Its layers, all of which are here; none for an image without files.
    pub stack: Stack,
    /// The same one by one, the lowest first: as in `config`.
    pub diff_ids: Vec<Digest>,
    /// The bytes of its configuration.
    pub config: Vec<u8>,
    /// The image that the last stage begins with, and its manifest's digest where it came from a registry.
    pub base: Option<(Reference, Option<Digest>)>,
    /// Statements about it.
    pub attestations: Vec<Attestation>,
    /// The configurations of the classic builder's intermediate images, the first first; none of other builds.
    pub intermediate: Vec<Intermediate>,
    /// What keeps the layers here.
    pub guard: Vec<Box<dyn Any + Send + Sync>>,
}

/// An in-toto statement without its subject, which is known when the image has a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// Its type: `https://slsa.dev/provenance/v0.2`, `https://spdx.dev/Document`.
    pub predicate_type: String,
    /// The JSON of its predicate.
    pub predicate: Vec<u8>,
}

/// An image that the classic builder made after an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intermediate {
    /// Digest of `config`: its id.
    pub id: Digest,
    /// The image that it was made from.
    pub parent: Option<Digest>,
    /// Its layers.
    pub stack: Stack,
    /// The bytes of its configuration.
    pub config: Vec<u8>,
}

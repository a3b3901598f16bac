//! What the engine says of registries: search results, what a reference stands for.

use serde::{Deserialize, Serialize};

use crate::null::is_zero;
use crate::{Descriptor, DescriptorPlatform};

/// One result of GET /images/search.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct SearchResult {
    pub star_count: i64,
    pub is_official: bool,
    pub name: String,
    /// Always false: Docker Hub has no such builds any more.
    pub is_automated: bool,
    pub description: String,
}

/// Answer of GET /distribution/{name}/json.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DistributionInspect {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// What it is made for.
    pub platforms: Vec<DescriptorPlatform>,
}

/// The data in the last line of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PushResult {
    /// The tag that was pushed.
    #[serde(skip_serializing_if = "is_zero")]
    pub tag: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Bytes of the manifest.
    pub size: i64,
}

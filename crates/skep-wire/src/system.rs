//! Version, disk usage, pruning, errors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::null::{if_empty, is_zero};
use crate::time::Timestamp;
use crate::{ContainerSummary, ImageDeleted, ImageSummary, Volume};

/// The body of every error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    /// The error's text.
    pub message: String,
}

/// Answer of GET /version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct Version {
    pub platform: VersionPlatform,
    pub components: Vec<VersionComponent>,
    pub version: String,
    pub api_version: String,
    #[serde(rename = "MinAPIVersion", skip_serializing_if = "is_zero")]
    pub min_api_version: String,
    pub git_commit: String,
    pub go_version: String,
    pub os: String,
    pub arch: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub kernel_version: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub experimental: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub build_time: String,
}

/// The product's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct VersionPlatform {
    pub name: String,
}

/// One part of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct VersionComponent {
    pub name: String,
    pub version: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub details: BTreeMap<String, String>,
}

/// Answer of GET /system/df. A list that was not asked for is missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct DiskUsage {
    /// Bytes of all layers, each counted once.
    pub layers_size: i64,
    pub images: Option<Vec<ImageSummary>>,
    pub containers: Option<Vec<ContainerSummary>>,
    pub volumes: Option<Vec<Volume>>,
    pub build_cache: Option<Vec<BuildCache>>,
    /// Only below v1.42.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builder_size: Option<i64>,
}

/// One thing that builds keep for later ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BuildCache {
    /// Its name.
    #[serde(rename = "ID")]
    pub id: String,
    /// What it was made from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// `regular`, `source.local`, `source.git.checkout`, `exec.cachemount`, `internal`, `frontend`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The step.
    pub description: String,
    /// A build uses it now.
    pub in_use: bool,
    /// An image has it too.
    pub shared: bool,
    /// Bytes on disk.
    pub size: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used; missing if never since.
    pub last_used_at: Option<Timestamp>,
    /// How often.
    pub usage_count: i64,
}

/// A directory of `RUN --mount=type=cache`: one of GET /skep/build/caches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CacheMount {
    /// Its name among all that builds keep.
    #[serde(rename = "ID")]
    pub id: String,
    /// What Dockerfiles call it.
    pub name: String,
    /// Bytes on disk.
    pub size: i64,
    /// A build uses it now.
    pub in_use: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used.
    pub last_used_at: Timestamp,
    /// How often.
    pub usage_count: i64,
}

/// Answer of POST /containers/prune.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ContainersPruned {
    #[serde(serialize_with = "if_empty")]
    pub containers_deleted: Vec<String>,
    pub space_reclaimed: u64,
}

/// Answer of POST /images/prune.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ImagesPruned {
    #[serde(serialize_with = "if_empty")]
    pub images_deleted: Vec<ImageDeleted>,
    pub space_reclaimed: u64,
}

/// Answer of GET /skep/prune: what prunes would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in the answers of the prunes themselves")]
pub struct PrunePreview {
    pub containers_deleted: Vec<String>,
    pub networks_deleted: Vec<String>,
    pub volumes_deleted: Vec<String>,
    pub images_deleted: Vec<ImageDeleted>,
    pub space_reclaimed: u64,
}

/// Answer of GET and POST /skep/gc. Sizes are in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct GcReport {
    /// It runs by itself.
    pub enabled: bool,
    /// Size of the data root's file system.
    pub disk_size: u64,
    /// Free there before.
    pub free_before: u64,
    /// Free there now.
    pub free: u64,
    /// It begins when less is free.
    pub low: u64,
    /// It ends when so much is free.
    pub high: u64,
    /// What went; of a dry run what may go, in this order.
    pub steps: Vec<GcItem>,
    /// Images that stay.
    pub kept: Vec<GcItem>,
    /// What compacting the database gave back.
    pub compacted: u64,
}

/// One thing that garbage collection speaks of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct GcItem {
    /// `trash`, `partial`, `image`.
    pub kind: String,
    /// Digest or image id; empty for the trash.
    pub id: String,
    /// Tags of an image.
    pub tags: Vec<String>,
    /// Bytes that it gives back.
    pub size: u64,
    /// Why.
    pub reason: String,
}

/// Answer of GET and POST /skep/check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckReport {
    /// Nothing is wrong, or all was mended.
    pub clean: bool,
    /// How many `Images`, `Blobs`, `Layers`, `Containers` and `Volumes` were looked at.
    pub checked: BTreeMap<String, usize>,
    /// What is wrong.
    pub findings: Vec<CheckFinding>,
}

/// One thing that is wrong in the data root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckFinding {
    /// `blob`, `layer`, `container`, …
    pub kind: String,
    /// Digest, id, name or path.
    #[serde(rename = "ID")]
    pub id: String,
    /// What is wrong with it.
    pub damage: String,
    /// Images and containers that need it.
    pub needed_by: Vec<String>,
    /// `found`, `mended`, `lost`.
    pub state: String,
    /// What a repair would do, what it did, or what is lost and what to do.
    pub remedy: String,
}

/// Answer of POST /networks/prune.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct NetworksPruned {
    #[serde(serialize_with = "if_empty")]
    pub networks_deleted: Vec<String>,
}

/// Answer of POST /build/prune.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct BuilderPruned {
    #[serde(serialize_with = "if_empty")]
    pub caches_deleted: Vec<String>,
    pub space_reclaimed: u64,
}

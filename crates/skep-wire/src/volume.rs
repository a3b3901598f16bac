//! Volumes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::null::{if_empty, is_zero};

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct Volume {
    /// RFC 3339, whole seconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub created_at: String,
    pub driver: String,
    #[serde(serialize_with = "if_empty")]
    pub labels: BTreeMap<String, String>,
    pub mountpoint: String,
    pub name: String,
    #[serde(serialize_with = "if_empty")]
    pub options: BTreeMap<String, String>,
    pub scope: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub status: BTreeMap<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<VolumeUsage>,
}

/// How much a volume takes and who uses it; -1 where it was not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct VolumeUsage {
    pub ref_count: i64,
    pub size: i64,
}

/// Answer of GET /volumes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct VolumeList {
    pub volumes: Vec<Volume>,
    #[serde(serialize_with = "if_empty")]
    pub warnings: Vec<String>,
}

/// Body of POST /volumes/create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", rename(deserialize = "CreateOptions"))]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct VolumeCreateRequest {
    /// Swarm's cluster volumes; kept as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_volume_spec: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "is_zero")]
    pub driver: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub driver_opts: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub labels: BTreeMap<String, String>,
    /// Empty: a name is drawn.
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
}

/// Answer of POST /volumes/prune.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct VolumesPruned {
    pub volumes_deleted: Vec<String>,
    pub space_reclaimed: u64,
}

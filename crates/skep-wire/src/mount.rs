//! Mounts: as they are asked for, and as inspect shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::null::is_zero;

/// A mount as asked for (`--mount`). `Type` is `bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct Mount {
    #[serde(rename = "Type", skip_serializing_if = "is_zero")]
    pub kind: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub source: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub target: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub consistency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
    /// Swarm's cluster volumes; kept as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_options: Option<serde_json::Value>,
}

/// Options of a bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct BindOptions {
    #[serde(skip_serializing_if = "is_zero")]
    pub propagation: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub non_recursive: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub create_mountpoint: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only_non_recursive: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub read_only_force_recursive: bool,
}

/// Options of a volume mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct VolumeOptions {
    #[serde(skip_serializing_if = "is_zero")]
    pub no_copy: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub subpath: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<DriverConfig>,
}

/// A volume driver with its options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct DriverConfig {
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub options: BTreeMap<String, String>,
}

/// Options of an image mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ImageOptions {
    #[serde(skip_serializing_if = "is_zero")]
    pub subpath: String,
}

/// Options of a tmpfs mount. `Mode` is a plain number (0o1777 as 1023).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct TmpfsOptions {
    #[serde(skip_serializing_if = "is_zero")]
    pub size_bytes: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub options: Vec<Vec<String>>,
}

/// A mount as inspect shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct MountPoint {
    #[serde(rename = "Type", skip_serializing_if = "is_zero")]
    pub kind: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    pub source: String,
    pub destination: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub driver: String,
    pub mode: String,
    #[serde(rename = "RW")]
    pub rw: bool,
    pub propagation: String,
}

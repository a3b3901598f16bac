//! Images: rows, inspect, history, removal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::null::{Empty, if_empty, is_zero, words};
use crate::{GraphDriver, HealthConfig, PortSet, Timestamp};

/// One image in GET /images/json.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ImageSummary {
    /// Containers that use it; -1 where it was not counted.
    pub containers: i64,
    /// Seconds since 1970.
    pub created: i64,
    pub id: String,
    #[serde(serialize_with = "if_empty")]
    pub labels: BTreeMap<String, String>,
    pub parent_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// From v1.47 on, on request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<ManifestSummary>,
    pub repo_digests: Vec<String>,
    pub repo_tags: Vec<String>,
    /// Bytes shared with other images; -1 where it was not counted.
    pub shared_size: i64,
    pub size: i64,
    /// Only below v1.44.
    #[serde(skip_serializing_if = "is_zero")]
    pub virtual_size: i64,
}

/// An OCI descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "named as in the OCI image specification")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescriptorPlatform>,
}

/// The platform in a descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "named as in the OCI image specification")]
pub struct DescriptorPlatform {
    pub architecture: String,
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "is_zero")]
    pub os_version: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub variant: String,
}

/// One manifest behind a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ManifestSummary {
    /// Digest of the manifest.
    #[serde(rename = "ID")]
    pub id: String,
    pub descriptor: Descriptor,
    /// Its blobs are here.
    pub available: bool,
    pub size: ManifestSize,
    /// `image`, `attestation` or `unknown`.
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ImageData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation_data: Option<AttestationData>,
}

/// Bytes that a manifest takes here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ManifestSize {
    pub content: i64,
    pub total: i64,
}

/// The image of a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ImageData {
    pub platform: DescriptorPlatform,
    pub size: UnpackedSize,
    /// Ids of containers that use it.
    #[serde(serialize_with = "if_empty")]
    pub containers: Vec<String>,
}

/// Bytes of an image's files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct UnpackedSize {
    pub unpacked: i64,
}

/// What an attestation is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AttestationData {
    /// Digest of the image's manifest.
    #[serde(rename = "For")]
    pub about: String,
}

/// Answer of GET /images/{name}/json.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ImageInspect {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub parent: String,
    pub comment: String,
    /// As the image says it, in whatever zone.
    #[serde(skip_serializing_if = "is_zero")]
    pub created: String,
    pub docker_version: String,
    pub author: String,
    pub architecture: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub variant: String,
    pub os: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub os_version: String,
    pub size: i64,
    /// Only below v1.44.
    #[serde(skip_serializing_if = "is_zero")]
    pub virtual_size: i64,
    pub graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    pub metadata: ImageMetadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// From v1.48 on, on request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<ManifestSummary>,
    pub config: ImageConfig,
}

/// The defaults that an image brings for its containers. Keys are in order of the alphabet, as dockerd has them here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ImageConfig {
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(serialize_with = "if_empty")]
    pub env: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub exposed_ports: PortSet,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(serialize_with = "if_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(serialize_with = "if_empty")]
    pub on_build: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub shell: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub stop_signal: String,
    pub user: String,
    #[serde(serialize_with = "if_empty")]
    pub volumes: BTreeMap<String, Empty>,
    pub working_dir: String,
}

/// The layers of an image, as digests of their uncompressed archives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub layers: Vec<String>,
}

/// What this engine knows of an image beside the image itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ImageMetadata {
    pub last_tag_time: Timestamp,
}

/// One line of GET /images/{name}/history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ImageHistoryItem {
    pub comment: String,
    /// Seconds since 1970.
    pub created: i64,
    pub created_by: String,
    /// `<missing>` where the step left no image.
    pub id: String,
    pub size: i64,
    #[serde(serialize_with = "if_empty")]
    pub tags: Vec<String>,
}

/// One line of DELETE /images/{name}.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ImageDeleted {
    #[serde(skip_serializing_if = "is_zero")]
    pub deleted: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub untagged: String,
}

//! Rows of GET /containers/json.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::null::is_zero;
use crate::{Descriptor, EndpointSettings, MountPoint};

/// One container in the list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ContainerSummary {
    pub id: String,
    /// With a leading slash.
    pub names: Vec<String>,
    pub image: String,
    #[serde(rename = "ImageID")]
    pub image_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
    pub command: String,
    /// Seconds since 1970.
    pub created: i64,
    pub ports: Vec<Port>,
    #[serde(skip_serializing_if = "is_zero")]
    pub size_rw: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub size_root_fs: i64,
    pub labels: BTreeMap<String, String>,
    pub state: String,
    /// For people: `Up 3 minutes`.
    pub status: String,
    pub host_config: SummaryHostConfig,
    pub network_settings: SummaryNetworks,
    pub mounts: Vec<MountPoint>,
}

/// `HostConfig` of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct SummaryHostConfig {
    #[serde(skip_serializing_if = "is_zero")]
    pub network_mode: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub annotations: BTreeMap<String, String>,
}

/// `NetworkSettings` of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct SummaryNetworks {
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// One exposed or published port.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct Port {
    #[serde(rename = "IP", skip_serializing_if = "is_zero")]
    pub ip: String,
    pub private_port: u16,
    #[serde(skip_serializing_if = "is_zero")]
    pub public_port: u16,
    #[serde(rename = "Type")]
    pub protocol: String,
}

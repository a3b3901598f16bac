//! What a container is asked to be: the body of POST /containers/create, and `Config` of inspect.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::null::{Empty, if_empty, is_zero, word_list, words};
use crate::{HostConfig, NetworkingConfig, PortSet};

/// The portable half of a container's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", rename(deserialize = "CreateRequest"))]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ContainerConfig {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub exposed_ports: PortSet,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    #[serde(serialize_with = "if_empty")]
    pub env: Vec<String>,
    /// None: take the image's. An empty list: no arguments.
    #[serde(deserialize_with = "words")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    pub image: String,
    #[serde(serialize_with = "if_empty")]
    pub volumes: BTreeMap<String, Empty>,
    pub working_dir: String,
    /// None: take the image's.
    #[serde(deserialize_with = "words")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub network_disabled: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub mac_address: String,
    #[serde(serialize_with = "if_empty")]
    pub on_build: Vec<String>,
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub stop_signal: String,
    /// Seconds; negative means forever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "word_list")]
    pub shell: Vec<String>,
}

/// How to find out whether a container is well. Durations are nanoseconds; 0 takes the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", rename(deserialize = "HealthcheckConfig"))]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct HealthConfig {
    /// Empty: inherit; `NONE`; `CMD`, words...; `CMD-SHELL`, a line.
    #[serde(skip_serializing_if = "is_zero")]
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// Body of POST /containers/create: the fields of [`ContainerConfig`] with the other two beside them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "named as in Docker's API description")]
pub struct ContainerCreateRequest {
    #[serde(flatten)]
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    pub networking_config: NetworkingConfig,
}

impl<'de> Deserialize<'de> for ContainerCreateRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's flatten would take the keys away from the decoder, which then couldn't match them regardless of case.
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase", rename = "CreateRequest")]
        struct Beside {
            host_config: HostConfig,
            networking_config: NetworkingConfig,
        }

        let body = serde_json::Value::deserialize(deserializer)?;
        let config = crate::from_value(body.clone()).map_err(serde::de::Error::custom)?;
        let beside: Beside = crate::from_value(body).map_err(serde::de::Error::custom)?;
        Ok(ContainerCreateRequest {
            config,
            host_config: beside.host_config,
            networking_config: beside.networking_config,
        })
    }
}

/// Answer of POST /containers/create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerCreateResponse {
    /// The new container's id.
    pub id: String,
    /// What the user should know, though the container was made.
    pub warnings: Vec<String>,
}

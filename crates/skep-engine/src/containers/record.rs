//! What is stored of a container. Facts only: what it is doing now is derived from them and from the kernel.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use skep_types::{ContainerId, ContainerName, Digest, Platform, Port};

use super::mounts::Mount;
use crate::model::container::ContainerConfig;
use crate::model::host::{HostConfig, PortBinding};
use crate::model::network::Endpoint;
use crate::model::status::{Exited, Running, Status};
use crate::model::view::EngineFiles;

/// A container in the database. Fields that came later have defaults, so that old records can be read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: ContainerId,
    pub(crate) name: ContainerName,
    pub(crate) created: DateTime<Utc>,
    pub(crate) image_id: Digest,
    /// Id of the image's stack of layers; absent for an image without layers.
    pub(crate) chain_id: Option<Digest>,
    pub(crate) platform: Platform,
    /// With the image's settings filled in.
    pub(crate) config: ContainerConfig,
    pub(crate) host: HostConfig,
    pub(crate) argv: Vec<String>,
    pub(crate) mounts: Vec<Mount>,
    /// By network name.
    pub(crate) endpoints: BTreeMap<String, Endpoint>,
    pub(crate) files: EngineFiles,
    /// A start whose end is not recorded: it runs, or it ended while nobody watched.
    #[serde(default)]
    pub(crate) running: Option<Running>,
    #[serde(default)]
    pub(crate) last_exit: Option<Exited>,
    /// It was started at least once, with success.
    #[serde(default)]
    pub(crate) ever_ran: bool,
    #[serde(default)]
    pub(crate) restart_count: u32,
    /// Someone asked for its end: the restart policy leaves it alone.
    #[serde(default)]
    pub(crate) stopped_by_user: bool,
    /// Ports of the host that it got.
    #[serde(default)]
    pub(crate) ports: BTreeMap<Port, Vec<PortBinding>>,
    /// Its place in the network while it runs, as the network stack knows it.
    #[serde(default)]
    pub(crate) net: Option<skep_net::Endpoint>,
}

impl Record {
    /// The status that the record alone tells.
    pub(crate) fn status(&self) -> Status {
        match (&self.running, &self.last_exit) {
            (Some(running), _) => Status::Running(*running),
            (None, Some(exited)) if self.ever_ran => Status::Exited(exited.clone()),
            (None, _) => Status::Created,
        }
    }
}

//! What is stored of a container. Facts only: what it is doing now is derived from them and from the kernel.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use skep_types::{ContainerId, ContainerName, Digest, Platform, Port};

use super::mounts::Mount;
use crate::model::container::ContainerConfig;
use crate::model::host::{HostConfig, PortBinding};
use crate::model::network::Endpoint;
use crate::model::status::{Exited, Running, Status};
use crate::model::view::EngineFiles;
use crate::networks::endpoint_names;

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
    /// Its places in networks while it runs, as the network stack knows them.
    #[serde(default, rename = "net", deserialize_with = "one_or_many")]
    pub(crate) nets: Vec<skep_net::Endpoint>,
    /// How much may flow through its endpoints.
    #[serde(default)]
    pub(crate) rate: skep_net::Rate,
    /// Names its network sandbox while it runs; each start has its own.
    #[serde(default)]
    pub(crate) sandbox: String,
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

    /// Nothing of what only a running container has in networks.
    pub(crate) fn clear_network(&mut self) {
        self.nets.clear();
        self.sandbox.clear();
        self.ports.clear();
        for endpoint in self.endpoints.values_mut() {
            endpoint.attached = None;
        }
    }

    /// Gives its places in networks the names that follow from its own.
    pub(crate) fn rename_endpoints(&mut self) {
        for (network, place) in &mut self.endpoints {
            let aliases = &place.settings.aliases;
            place.names = endpoint_names(network, &self.name, self.id, &self.config.hostname, aliases);
        }
    }
}

/// Containers used to be in one network at the most.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<skep_net::Endpoint>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Places {
        Many(Vec<skep_net::Endpoint>),
        One(Option<Box<skep_net::Endpoint>>),
    }
    Ok(match Places::deserialize(deserializer)? {
        Places::Many(places) => places,
        Places::One(place) => place.into_iter().map(|place| *place).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Row {
        #[serde(default, rename = "net", deserialize_with = "one_or_many")]
        nets: Vec<skep_net::Endpoint>,
    }

    #[test]
    fn places_in_one_network_and_in_many_are_read() {
        let id = "ab".repeat(32);
        let old = format!(
            r#"{{"network":"{id}","container":"{id}","ifname":"eth0","host_link":"veth1","mac":"02:42:ac:11:00:02",
                "address":"172.17.0.2","prefix":16,"gateway":"172.17.0.1","address6":null,"gateway6":null,"published":[]}}"#
        );
        let nets = |text: &str| serde_json::from_str::<Row>(text).unwrap().nets;
        assert!(nets("{}").is_empty());
        assert!(nets(r#"{"net":null}"#).is_empty());
        let one = nets(&format!(r#"{{"net":{old}}}"#));
        assert_eq!(one[0].address, Some(("172.17.0.2".parse().unwrap(), 16)));
        let now = serde_json::to_string(&one).unwrap();
        assert_eq!(nets(&format!(r#"{{"net":{now}}}"#)), one);
    }
}

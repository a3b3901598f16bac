//! Networks and a container's place in them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use skep_types::{ContainerId, NetworkId};

/// The network that a container starts in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// `default`: the default bridge.
    #[default]
    Default,
    /// `bridge`: the default bridge by its name.
    Bridge,
    /// The host's network namespace.
    Host,
    /// A namespace with nothing but the loopback device.
    None,
    /// Another container's namespace, by name or id.
    Container(String),
    /// A network by name or id.
    Named(String),
}

/// What a container asks of one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSettings {
    /// The address it wants.
    pub ipv4_address: Option<Ipv4Addr>,
    /// The MAC address it wants.
    pub mac_address: Option<String>,
    /// Further names.
    pub aliases: Vec<String>,
}

/// A container's place in a network. The addresses are absent while it does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network.
    pub network: NetworkId,
    /// What was asked for.
    pub settings: EndpointSettings,
    /// What it got, while it runs.
    pub attached: Option<Attached>,
}

/// Addresses of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// 64 digits that name this attachment.
    pub endpoint_id: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Bits of the network part.
    pub prefix: u8,
    /// The router's address.
    pub gateway: Ipv4Addr,
    /// Its MAC address.
    pub mac: String,
    /// The device's name on the host side.
    pub host_link: String,
}

/// A network as `network inspect` shows it.
#[derive(Debug, Clone)]
pub struct NetworkView {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// `bridge`, `host`, `null`.
    pub driver: String,
    /// No way out.
    pub internal: bool,
    /// Subnet and gateway, for networks that have addresses.
    pub ipam: Vec<IpamPool>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The running containers in it.
    pub containers: BTreeMap<ContainerId, NetworkMember>,
}

/// One address pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpamPool {
    /// `172.17.0.0/16`.
    pub subnet: String,
    /// `172.17.0.1`.
    pub gateway: String,
}

/// A container as its network sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkMember {
    /// The container's name.
    pub name: String,
    /// 64 digits.
    pub endpoint_id: String,
    /// Its MAC address.
    pub mac: String,
    /// `172.17.0.2/16`.
    pub ipv4: String,
}

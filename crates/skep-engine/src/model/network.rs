//! Networks and a container's place in them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    /// The IPv4 address it wants.
    pub ipv4_address: Option<Ipv4Addr>,
    /// The IPv6 address it wants.
    pub ipv6_address: Option<Ipv6Addr>,
    /// Further addresses that mean something on the link only.
    pub link_local: Vec<IpAddr>,
    /// The MAC address it wants.
    pub mac_address: Option<String>,
    /// Further names.
    pub aliases: Vec<String>,
    /// Other containers under names of its own: `container[:name]`.
    pub links: Vec<String>,
    /// Options of the network's driver.
    pub driver_options: BTreeMap<String, String>,
    /// The network with the highest number has the default routes.
    pub gateway_priority: i64,
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
    /// The names that others in the network find it by; none in networks that have no names.
    #[serde(default)]
    pub names: Vec<String>,
}

/// Addresses of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// 64 digits that name this attachment.
    pub endpoint_id: String,
    /// Its IPv4 address.
    pub address: Option<Ipv4Addr>,
    /// Bits of the network part.
    pub prefix: u8,
    /// The router's IPv4 address.
    pub gateway: Option<Ipv4Addr>,
    /// Its IPv6 address, with the bits of the network part.
    #[serde(default)]
    pub address6: Option<(Ipv6Addr, u8)>,
    /// The router's IPv6 address.
    #[serde(default)]
    pub gateway6: Option<Ipv6Addr>,
    /// Its MAC address; none in networks without links.
    pub mac: String,
    /// The device's name on the host side, where there is one.
    pub host_link: String,
}

/// What `network create` asks for.
#[derive(Debug, Clone, Default)]
pub struct CreateNetwork {
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan`, `ipvlan`; a bridge when empty.
    pub driver: String,
    /// `local`, as there is no swarm.
    pub scope: String,
    /// IPv4, which is on by default.
    pub ipv4: Option<bool>,
    /// IPv6, which is off by default.
    pub ipv6: Option<bool>,
    /// No way out.
    pub internal: bool,
    /// Containers may be connected that belong to no service. Without a swarm all may.
    pub attachable: bool,
    /// The routing mesh of a swarm.
    pub ingress: bool,
    /// Nothing but settings for other networks.
    pub config_only: bool,
    /// The network that the settings are taken from.
    pub config_from: Option<String>,
    /// Its addresses.
    pub ipam: Ipam,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// The management of a network's addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// `default`, or `null` for none.
    pub driver: String,
    /// Its options, which no driver here has a use for.
    pub options: BTreeMap<String, String>,
    /// The subnets.
    pub pools: Vec<IpamPool>,
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
    /// `bridge`, `macvlan`, `ipvlan`, `host`, `null`.
    pub driver: String,
    /// `local`.
    pub scope: String,
    /// It has IPv4 addresses.
    pub ipv4: bool,
    /// It has IPv6 addresses.
    pub ipv6: bool,
    /// No way out.
    pub internal: bool,
    /// As asked for.
    pub attachable: bool,
    /// Nothing but settings for other networks.
    pub config_only: bool,
    /// The network that its settings were taken from, else empty.
    pub config_from: String,
    /// Subnets and gateways, for networks that have addresses.
    pub ipam: Ipam,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The running containers in it.
    pub containers: BTreeMap<ContainerId, NetworkMember>,
}

/// One address pool, as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamPool {
    /// `172.17.0.0/16`.
    pub subnet: String,
    /// The part that addresses are drawn from, else empty.
    pub range: String,
    /// `172.17.0.1`, else empty.
    pub gateway: String,
    /// Addresses that are not given away, by name.
    pub auxiliary: BTreeMap<String, String>,
}

/// A container as its network sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkMember {
    /// The container's name.
    pub name: String,
    /// 64 digits.
    pub endpoint_id: String,
    /// Its MAC address.
    pub mac: String,
    /// `172.17.0.2/16`.
    pub ipv4: String,
    /// `fd00::2/64`.
    pub ipv6: String,
}

impl NetworkView {
    /// Whether it is one of those that are always there.
    pub fn is_predefined(&self) -> bool {
        is_predefined(&self.name)
    }
}

/// Whether a network of this name is always there.
pub(crate) fn is_predefined(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none")
}

//! What callers say and get back: configurations of the stack and of endpoints, ports, and what is found at a restart.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use skep_types::{ContainerId, NetworkId};

use crate::error::{NetError, PortHolder};
use crate::mac::MacAddr;
use crate::network::NetworkConfig;
use crate::stored;

/// How an engine sets up its part of the host's network.
#[derive(Debug, Clone)]
pub struct StackConfig {
    /// Name of the engine's nftables table, different for each engine of a host (`skep`, `skep-br1`).
    pub table: String,
    /// What happens to forwarded traffic that is not of containers.
    pub forward: ForwardPolicy,
    /// What happens where the firewall of the host is in the way.
    pub host_firewall: HostFirewall,
}

/// What the host's own firewall may say about containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostFirewall {
    /// What it drops stays dropped.
    #[default]
    Respect,
    /// Its forward chains are made to accept what goes to and from containers, as Docker does it.
    Bypass,
}

/// What the forward chain does with traffic between two interfaces that are both not the engine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardPolicy {
    /// Nothing: other tables and the host's own configuration decide.
    Leave,
    /// Dropped if this engine had to turn forwarding on, so that a host that was no router does not become one.
    DropIfEnabledHere,
}

/// What a container asks of a network.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// The container.
    pub container: ContainerId,
    /// Name of the interface inside the container: `eth0`.
    pub ifname: String,
    /// A wished IPv4 address; by default the next free one, on networks with an IPv4 subnet.
    pub address: Option<Ipv4Addr>,
    /// A wished IPv6 address; by default the next free one, on networks with an IPv6 subnet.
    pub address6: Option<Ipv6Addr>,
    /// Further addresses that mean something on the link only, such as 169.254.3.4.
    pub link_local: Vec<IpAddr>,
    /// A wished hardware address; by default `02:42:` and the IPv4 address.
    pub mac: Option<MacAddr>,
    /// The container's IPv4 default route goes through this endpoint.
    pub default_route: bool,
    /// The container's IPv6 default route goes through this endpoint.
    pub default_route6: bool,
    /// Kernel settings of the interface, by names such as `net.ipv4.conf.IFNAME.log_martians`, where `IFNAME` stands for
    /// the interface.
    pub sysctls: Vec<(String, String)>,
    /// How much may flow.
    pub rate: Rate,
    /// Ports to publish at once.
    pub ports: Vec<PortMapping>,
}

impl EndpointConfig {
    /// An endpoint `eth0` with the default routes and no wishes.
    pub fn new(container: ContainerId) -> Self {
        EndpointConfig {
            container,
            ifname: "eth0".to_owned(),
            address: None,
            address6: None,
            link_local: Vec::new(),
            mac: None,
            default_route: true,
            default_route6: true,
            sysctls: Vec::new(),
            rate: Rate::default(),
            ports: Vec::new(),
        }
    }
}

/// How much may flow through an endpoint, in bits per second and as the container sees it; `None` for all that fits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Into the container.
    pub inbound: Option<NonZeroU64>,
    /// Out of it.
    pub outbound: Option<NonZeroU64>,
}

/// A container plugged into a network. The engine stores it; [`crate::NetworkStack::open`] takes it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "stored::AnyEndpoint")]
pub struct Endpoint {
    /// The network.
    pub network: NetworkId,
    /// The container.
    pub container: ContainerId,
    /// The interface inside the container.
    pub ifname: String,
    /// The other end of the veth pair, on the host; macvlan and ipvlan have none.
    pub host_link: Option<String>,
    /// Hardware address of the interface.
    pub mac: MacAddr,
    /// IPv4 address and prefix length.
    pub address: Option<(Ipv4Addr, u8)>,
    /// The network's IPv4 gateway, whether or not the container's default route leads there; none where there is no way
    /// out, and with ipvlan in mode `l3`, where the default route leads into the interface.
    pub gateway: Option<Ipv4Addr>,
    /// IPv6 address and prefix length.
    pub address6: Option<(Ipv6Addr, u8)>,
    /// The network's IPv6 gateway, as with IPv4.
    pub gateway6: Option<Ipv6Addr>,
    /// Further addresses that mean something on the link only.
    pub link_local: Vec<IpAddr>,
    /// How much may flow.
    pub rate: Rate,
    /// The ports published now.
    pub published: Vec<Published>,
}

impl Endpoint {
    /// Its addresses that others can reach it by, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let v4 = self.address.map(|(address, _)| IpAddr::V4(address));
        v4.into_iter().chain(self.address6.map(|(address, _)| IpAddr::V6(address)))
    }
}

/// Families of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// Which host port a mapping may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPort {
    /// Any free port of the kernel's local range.
    Ephemeral,
    /// This one.
    Exact(u16),
    /// The first free one of these, both ends included.
    Range(u16, u16),
}

/// One port that a container wants published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's address; `None` for the network's default, or all.
    pub host_ip: Option<IpAddr>,
    /// The host's port.
    pub host_port: HostPort,
    /// The container's port.
    pub container_port: u16,
    /// The protocol of both.
    pub protocol: Protocol,
}

/// A published port: what the host forwards to the container, or, where the network has no address translation, what is
/// open on the container's own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// The host's address, `0.0.0.0` or `::` for all.
    pub host_ip: IpAddr,
    /// The host's port; zero where there is no address translation.
    pub host_port: u16,
    /// The container's address.
    pub container_ip: IpAddr,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl Published {
    /// The host has a port for it, which is led to the container.
    pub fn is_translated(&self) -> bool {
        self.host_port != 0
    }
}

/// What an engine had stored before it was restarted.
#[derive(Debug, Clone, Default)]
pub struct Saved {
    /// Networks.
    pub networks: Vec<NetworkConfig>,
    /// Endpoints of containers that still run.
    pub endpoints: Vec<Endpoint>,
}

/// What was found when a stack was opened with [`Saved`] state.
#[derive(Debug, Default)]
pub struct Restored {
    /// Endpoints whose link is gone from the host: their containers have no network any more.
    pub lost: Vec<Endpoint>,
    /// Published ports that are forwarded again, though another program has taken the port meanwhile.
    pub contested: Vec<(ContainerId, Published, PortHolder)>,
    /// Networks that could not be set up.
    pub failed: Vec<(NetworkId, NetError)>,
}

/// Counters of an endpoint, as the container sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the kernel and of the Engine API")]
pub struct LinkStats {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

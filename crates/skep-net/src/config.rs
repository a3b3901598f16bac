//! What callers say and get back: configurations of the stack, of networks and endpoints, and their stored forms.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use skep_types::{ContainerId, NetworkId};

use crate::error::{NetError, PortHolder};

/// How an engine sets up its part of the host's network.
#[derive(Debug, Clone)]
pub struct StackConfig {
    /// Name of the engine's nftables table, different for each engine of a host (`skep`, `skep-br1`).
    pub table: String,
    /// What happens to forwarded traffic that is not of containers.
    pub forward: ForwardPolicy,
}

/// What the forward chain does with traffic between two interfaces that are both not the engine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardPolicy {
    /// Nothing: other tables and the host's own configuration decide.
    Leave,
    /// Dropped if this engine had to turn forwarding on, so that a host that was no router does not become one.
    DropIfEnabledHere,
}

/// A bridge network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeConfig {
    /// The network's id.
    pub id: NetworkId,
    /// Name of the bridge link on the host, at most 15 bytes.
    pub bridge: String,
    /// The IPv4 subnet.
    pub subnet: Ipv4Net,
    /// The bridge's address; by default the first of the subnet.
    pub gateway: Option<Ipv4Addr>,
    /// Part of the subnet from which addresses are drawn; by default all of it.
    pub ip_range: Option<Ipv4Net>,
    /// The IPv6 subnet, if the network has one. The bridge gets its first address.
    pub subnet6: Option<Ipv6Net>,
    /// Largest packet of the network's links; `None` for the kernel's default.
    pub mtu: Option<u32>,
    /// Containers of the network may talk to each other.
    pub icc: bool,
    /// Outgoing connections take an address of the host.
    pub masquerade: bool,
    /// The network has no way out and no way in.
    pub internal: bool,
    /// Host address that ports are published on when a mapping names none.
    pub host_binding: Option<IpAddr>,
}

impl BridgeConfig {
    /// A network with Docker's defaults.
    pub fn new(id: NetworkId, bridge: impl Into<String>, subnet: Ipv4Net) -> Self {
        BridgeConfig {
            id,
            bridge: bridge.into(),
            subnet,
            gateway: None,
            ip_range: None,
            subnet6: None,
            mtu: None,
            icc: true,
            masquerade: true,
            internal: false,
            host_binding: None,
        }
    }

    /// The bridge's IPv4 address.
    pub fn gateway_address(&self) -> Ipv4Addr {
        self.gateway.unwrap_or_else(|| self.subnet.hosts().next().unwrap_or(self.subnet.addr()))
    }

    /// The bridge's IPv6 address.
    pub fn gateway6_address(&self) -> Option<Ipv6Addr> {
        self.subnet6.map(|net| Ipv6Addr::from(u128::from(net.network()) + 1))
    }
}

/// What a container asks of a network.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// The container.
    pub container: ContainerId,
    /// Name of the interface inside the container: `eth0`.
    pub ifname: String,
    /// A wished IPv4 address; by default the next free one.
    pub address: Option<Ipv4Addr>,
    /// A wished IPv6 address; by default the next free one, on networks with an IPv6 subnet.
    pub address6: Option<Ipv6Addr>,
    /// A wished hardware address; by default `02:42:` and the IPv4 address.
    pub mac: Option<MacAddr>,
    /// The container's default routes go through this endpoint.
    pub default_route: bool,
    /// Ports to publish at once.
    pub ports: Vec<PortMapping>,
}

impl EndpointConfig {
    /// An endpoint `eth0` with the default route and no wishes.
    pub fn new(container: ContainerId) -> Self {
        EndpointConfig {
            container,
            ifname: "eth0".to_owned(),
            address: None,
            address6: None,
            mac: None,
            default_route: true,
            ports: Vec::new(),
        }
    }
}

/// A container plugged into a network. The engine stores it; [`crate::NetworkStack::open`] takes it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network.
    pub network: NetworkId,
    /// The container.
    pub container: ContainerId,
    /// The interface inside the container.
    pub ifname: String,
    /// The other end of the veth pair, on the host.
    pub host_link: String,
    /// Hardware address of the interface.
    pub mac: MacAddr,
    /// IPv4 address.
    pub address: Ipv4Addr,
    /// Length of the IPv4 subnet's prefix.
    pub prefix: u8,
    /// IPv4 gateway; none on internal networks.
    pub gateway: Option<Ipv4Addr>,
    /// IPv6 address and prefix length.
    pub address6: Option<(Ipv6Addr, u8)>,
    /// IPv6 gateway.
    pub gateway6: Option<Ipv6Addr>,
    /// The ports published now.
    pub published: Vec<Published>,
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

/// A published port: what the host forwards to the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// The host's address, `0.0.0.0` or `::` for all.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The container's address.
    pub container_ip: IpAddr,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// What an engine had stored before it was restarted.
#[derive(Debug, Clone, Default)]
pub struct Saved {
    /// Networks.
    pub networks: Vec<BridgeConfig>,
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

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `02:42:` and the four bytes of `ip`: unique on its network, and the same again for the same address, so that
    /// neighbours' caches stay right.
    pub fn for_ip(ip: Ipv4Addr) -> Self {
        let [a, b, c, d] = ip.octets();
        MacAddr([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is not a hardware address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address: {0}")]
pub struct MacAddrError(String);

impl FromStr for MacAddr {
    type Err = MacAddrError;

    fn from_str(text: &str) -> Result<Self, MacAddrError> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2);
            *byte = part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or_else(|| MacAddrError(text.to_owned()))?;
        }
        if parts.next().is_some() { Err(MacAddrError(text.to_owned())) } else { Ok(MacAddr(bytes)) }
    }
}

impl Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_parse_and_print() {
        let mac = MacAddr::for_ip(Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02:42:ac:11:00:02".parse(), Ok(mac));
        assert_eq!("02-42-AC-11-00-02".parse(), Ok(mac));
        for bad in ["", "02:42", "02:42:ac:11:00:02:03", "2:42:ac:11:0:02", "02:42:ac:11:00:zz"] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }
}

//! What a network is: its subnets, and what kind of link its containers are plugged in with.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use skep_types::NetworkId;

use crate::error::NetError;
use crate::{bridge, pools, stored};

/// A network. The engine stores it; [`crate::NetworkStack::open`] takes it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "stored::AnyNetwork")]
pub struct NetworkConfig {
    /// The network's id.
    pub id: NetworkId,
    /// What its containers are plugged in with.
    pub link: LinkConfig,
    /// Its subnets. A bridge has at most one of each family, macvlan and ipvlan may have several or none.
    pub subnets: Vec<Subnet>,
    /// Largest packet of the network's links; `None` for the kernel's default.
    pub mtu: Option<u32>,
    /// The network has no way out and no way in.
    pub internal: bool,
}

/// A range of addresses that a network gives to its containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The range, without host bits.
    pub subnet: IpNet,
    /// The router's address, on a bridge the bridge's own; by default the first one of the subnet.
    pub gateway: Option<IpAddr>,
    /// The part that addresses are drawn from; by default all of it.
    pub range: Option<IpNet>,
    /// Addresses of machines that are no containers, by name: never given away (`--aux-address`).
    pub reserved: BTreeMap<String, IpAddr>,
}

/// The kind of link that leads to a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkConfig {
    /// veth pairs into a bridge of the host's.
    Bridge(BridgeLink),
    /// Interfaces with hardware addresses of their own on top of one of the host's.
    Macvlan {
        /// The host's interface, or `eth0.10` for a VLAN of `eth0` that is made if it is not there. `None` for a link that
        /// leads nowhere, so that the network is its own only.
        parent: Option<String>,
        /// What the interfaces may say to each other.
        mode: MacvlanMode,
    },
    /// Interfaces that share the hardware address of one of the host's.
    Ipvlan {
        /// As with macvlan.
        parent: Option<String>,
        /// Where packets find their way.
        mode: IpvlanMode,
        /// What the interfaces may say to each other.
        flag: IpvlanFlag,
    },
}

/// A bridge and how it is connected with the rest of the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeLink {
    /// Name of the bridge on the host, at most 15 bytes.
    pub name: String,
    /// Containers of the network may talk to each other.
    pub icc: bool,
    /// Outgoing connections take an address of the host, where the family's gateway mode has address translation.
    pub masquerade: bool,
    /// How IPv4 gets in and out.
    pub gateway_mode_v4: GatewayMode,
    /// How IPv6 gets in and out.
    pub gateway_mode_v6: GatewayMode,
    /// Host address that ports are published on when a mapping names none.
    pub host_binding: Option<IpAddr>,
    /// The bridge gets no IPv4 address: somebody else is the gateway.
    pub inhibit_ipv4: bool,
    /// What the containers' interfaces are called, without their number; `eth` if it is not said.
    pub ifname_prefix: Option<String>,
    /// Interfaces of the host that may reach containers directly, by their own addresses.
    pub trusted_host_interfaces: Vec<String>,
}

/// How a bridge network is connected, for one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayMode {
    /// Ports are published on addresses of the host; nothing else gets in.
    #[default]
    Nat,
    /// As `Nat`, but containers can also be reached by their own addresses, on any port.
    NatUnprotected,
    /// No translation: published ports are opened on the container's own address.
    Routed,
    /// The bridge has no address: the network is not connected with its host.
    Isolated,
}

/// What interfaces on the same parent may say to each other (`ip link help macvlan`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MacvlanMode {
    /// They talk to each other directly.
    #[default]
    Bridge,
    /// Only with the outside.
    Private,
    /// Through the switch, if that sends frames back.
    Vepa,
    /// There is only one, which takes over the parent.
    Passthru,
}

/// Where packets of an ipvlan network find their way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpvlanMode {
    /// By neighbour discovery on the parent's segment.
    #[default]
    L2,
    /// By the host's routes; no broadcast reaches the containers.
    L3,
    /// As `L3`, and past the host's packet filter.
    L3s,
}

/// What interfaces of an ipvlan network may say to each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpvlanFlag {
    /// They talk to each other directly.
    #[default]
    Bridge,
    /// Not at all.
    Private,
    /// Only through what is behind the parent.
    Vepa,
}

impl Subnet {
    /// A subnet with nothing particular.
    pub fn new(subnet: impl Into<IpNet>) -> Self {
        Subnet { subnet: subnet.into(), gateway: None, range: None, reserved: BTreeMap::new() }
    }

    /// The router's address.
    pub fn gateway_address(&self) -> IpAddr {
        self.gateway.unwrap_or(match self.subnet {
            IpNet::V4(net) if net.prefix_len() >= 31 => net.network().into(),
            IpNet::V4(net) => Ipv4Addr::from(u32::from(net.network()) + 1).into(),
            IpNet::V6(net) if net.prefix_len() >= 127 => net.network().into(),
            IpNet::V6(net) => Ipv6Addr::from(u128::from(net.network()) + 1).into(),
        })
    }
}

impl BridgeLink {
    /// A bridge with Docker's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        BridgeLink {
            name: name.into(),
            icc: true,
            masquerade: true,
            gateway_mode_v4: GatewayMode::Nat,
            gateway_mode_v6: GatewayMode::Nat,
            host_binding: None,
            inhibit_ipv4: false,
            ifname_prefix: None,
            trusted_host_interfaces: Vec::new(),
        }
    }
}

impl NetworkConfig {
    /// A bridge network with Docker's defaults and one subnet.
    pub fn bridge(id: NetworkId, name: impl Into<String>, subnet: impl Into<IpNet>) -> Self {
        NetworkConfig {
            id,
            link: LinkConfig::Bridge(BridgeLink::new(name)),
            subnets: vec![Subnet::new(subnet)],
            mtu: None,
            internal: false,
        }
    }

    /// The bridge, if that is what it is.
    pub fn as_bridge(&self) -> Option<&BridgeLink> {
        match &self.link {
            LinkConfig::Bridge(bridge) => Some(bridge),
            LinkConfig::Macvlan { .. } | LinkConfig::Ipvlan { .. } => None,
        }
    }

    /// As [`NetworkConfig::as_bridge`], to change it.
    pub fn as_bridge_mut(&mut self) -> Option<&mut BridgeLink> {
        match &mut self.link {
            LinkConfig::Bridge(bridge) => Some(bridge),
            LinkConfig::Macvlan { .. } | LinkConfig::Ipvlan { .. } => None,
        }
    }

    /// The first subnet of IPv4.
    pub fn subnet4(&self) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.subnet.addr().is_ipv4())
    }

    /// The first subnet of IPv6.
    pub fn subnet6(&self) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.subnet.addr().is_ipv6())
    }

    /// The first IPv4 subnet's range.
    pub fn net4(&self) -> Option<Ipv4Net> {
        self.subnets.iter().find_map(|subnet| match subnet.subnet {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        })
    }

    /// The first IPv6 subnet's range.
    pub fn net6(&self) -> Option<Ipv6Net> {
        self.subnets.iter().find_map(|subnet| match subnet.subnet {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some(net),
        })
    }

    /// How a family gets in and out of a bridge; macvlan and ipvlan have no gateway here.
    pub fn gateway_mode(&self, address: IpAddr) -> Option<GatewayMode> {
        let bridge = self.as_bridge()?;
        Some(if address.is_ipv4() { bridge.gateway_mode_v4 } else { bridge.gateway_mode_v6 })
    }
}

/// What is wrong with a network, before anything is changed.
impl NetworkConfig {
    /// Refuses what can't work.
    pub(crate) fn check(&self) -> Result<(), NetError> {
        if let Some(link) = self.as_bridge() {
            bridge::check_name(&link.name)?;
            for family in [Ipv4Addr::UNSPECIFIED.into(), IpAddr::from(Ipv6Addr::UNSPECIFIED)] {
                if self.of_family(family).count() > 1 {
                    return Err(NetError::Config("bridge driver doesn't support multiple subnets".to_owned()));
                }
            }
            if self.subnets.is_empty() {
                return Err(NetError::Config("a bridge network needs a subnet".to_owned()));
            }
            if let Some(full) = self.subnets.iter().find(|s| s.subnet.prefix_len() > s.subnet.max_prefix_len() - 2) {
                return Err(NetError::Config(format!("subnet {} has no room for containers", full.subnet)));
            }
        }
        for (n, subnet) in self.subnets.iter().enumerate() {
            subnet.check()?;
            if let Some(with) = self.subnets[..n].iter().find(|other| pools::overlap(other.subnet, subnet.subnet)) {
                return Err(overlap(subnet, with));
            }
        }
        Ok(())
    }

    /// Refuses a network that can't be beside this one.
    pub(crate) fn check_beside(&self, new: &NetworkConfig) -> Result<(), NetError> {
        if self.id == new.id {
            return Err(NetError::NetworkExists(self.id.to_string()));
        }
        if let (Some(own), Some(new)) = (self.as_bridge(), new.as_bridge())
            && own.name == new.name
        {
            return Err(NetError::NetworkExists(own.name.clone()));
        }
        self.link.check_parent_beside(&self.id, new)?;
        for subnet in &new.subnets {
            if let Some(with) = self.subnets.iter().find(|own| pools::overlap(own.subnet, subnet.subnet)) {
                return Err(overlap(subnet, with));
            }
        }
        Ok(())
    }

    fn of_family(&self, like: IpAddr) -> impl Iterator<Item = &Subnet> {
        self.subnets.iter().filter(move |subnet| subnet.subnet.addr().is_ipv4() == like.is_ipv4())
    }
}

fn overlap(subnet: &Subnet, with: &Subnet) -> NetError {
    NetError::SubnetOverlap { subnet: subnet.subnet.to_string(), with: with.subnet.to_string() }
}

impl Subnet {
    fn check(&self) -> Result<(), NetError> {
        if self.subnet != self.subnet.trunc() {
            return Err(NetError::Config(format!(
                "invalid subnet {}: it should be {}",
                self.subnet,
                self.subnet.trunc()
            )));
        }
        for address in self.gateway.iter().chain(self.reserved.values()) {
            if !self.subnet.contains(address) {
                return Err(NetError::AddressOutside { address: *address, subnet: self.subnet.to_string() });
            }
        }
        match self.range {
            Some(range) if !self.subnet.contains(&range) => {
                Err(NetError::Config(format!("range {range} is not within the subnet {}", self.subnet)))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(bridge: &str, subnet: &str) -> NetworkConfig {
        NetworkConfig::bridge(NetworkId::from_bytes([7; 32]), bridge, subnet.parse::<IpNet>().unwrap())
    }

    #[test]
    fn configurations_are_checked() {
        assert!(config("skep0", "172.17.0.0/16").check().is_ok());
        assert!(config("skep0", "fd00::/64").check().is_ok());
        for bad in ["172.17.0.0/31", "172.17.0.1/16", "fd00::/127"] {
            assert!(config("skep0", bad).check().is_err(), "{bad}");
        }
        let wrong = |change: fn(&mut Subnet)| {
            let mut config = config("skep0", "172.17.0.0/16");
            change(&mut config.subnets[0]);
            assert!(config.check().is_err(), "{config:?}");
        };
        wrong(|s| s.gateway = Some([10, 0, 0, 1].into()));
        wrong(|s| s.range = "172.18.0.0/24".parse().ok());
        wrong(|s| s.range = "fd00::/64".parse().ok());
        wrong(|s| s.reserved = BTreeMap::from([("router".to_owned(), [10, 0, 0, 1].into())]));
        let mut two = config("skep0", "172.17.0.0/16");
        two.subnets.push(Subnet::new("172.18.0.0/16".parse::<IpNet>().unwrap()));
        assert!(two.check().is_err());
        two.link = LinkConfig::Macvlan { parent: None, mode: MacvlanMode::Bridge };
        assert!(two.check().is_ok());
        two.subnets.push(Subnet::new("172.18.5.0/24".parse::<IpNet>().unwrap()));
        assert!(matches!(two.check(), Err(NetError::SubnetOverlap { .. })));
    }

    #[test]
    fn the_first_address_is_the_gateway() {
        let gateway = |net: &str| Subnet::new(net.parse::<IpNet>().unwrap()).gateway_address().to_string();
        assert_eq!([gateway("10.0.0.0/8"), gateway("fd00:1::/64")], ["10.0.0.1", "fd00:1::1"]);
    }
}

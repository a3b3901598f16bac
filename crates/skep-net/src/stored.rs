//! Forms in which networks and endpoints were stored before a network could be anything but a bridge with one IPv4
//! subnet. They are read, and written in the present form with the next change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;
use skep_types::{ContainerId, NetworkId};

use crate::config::{Endpoint, Published, Rate};
use crate::mac::MacAddr;
use crate::network::{BridgeLink, LinkConfig, NetworkConfig, Subnet};

/// A network in any form.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum AnyNetwork {
    Present { id: NetworkId, link: LinkConfig, subnets: Vec<Subnet>, mtu: Option<u32>, internal: bool },
    Bridge(OldBridge),
}

#[derive(Debug, Deserialize)]
pub(crate) struct OldBridge {
    id: NetworkId,
    bridge: String,
    subnet: Ipv4Net,
    gateway: Option<Ipv4Addr>,
    ip_range: Option<Ipv4Net>,
    subnet6: Option<Ipv6Net>,
    mtu: Option<u32>,
    icc: bool,
    masquerade: bool,
    internal: bool,
    host_binding: Option<IpAddr>,
}

impl From<AnyNetwork> for NetworkConfig {
    fn from(any: AnyNetwork) -> Self {
        match any {
            AnyNetwork::Present { id, link, subnets, mtu, internal } => {
                NetworkConfig { id, link, subnets, mtu, internal }
            }
            AnyNetwork::Bridge(old) => {
                let link = BridgeLink {
                    icc: old.icc,
                    masquerade: old.masquerade,
                    host_binding: old.host_binding,
                    ..BridgeLink::new(old.bridge)
                };
                let v4 = Subnet {
                    gateway: old.gateway.map(IpAddr::V4),
                    range: old.ip_range.map(IpNet::V4),
                    ..Subnet::new(old.subnet)
                };
                NetworkConfig {
                    id: old.id,
                    link: LinkConfig::Bridge(link),
                    subnets: std::iter::once(v4).chain(old.subnet6.map(Subnet::new)).collect(),
                    mtu: old.mtu,
                    internal: old.internal,
                }
            }
        }
    }
}

/// An endpoint in any form: an IPv4 address used to be there always, with its prefix beside it.
#[derive(Debug, Deserialize)]
pub(crate) struct AnyEndpoint {
    network: NetworkId,
    container: ContainerId,
    ifname: String,
    host_link: Option<String>,
    mac: MacAddr,
    address: Option<AnyAddress>,
    prefix: Option<u8>,
    gateway: Option<Ipv4Addr>,
    address6: Option<(Ipv6Addr, u8)>,
    gateway6: Option<Ipv6Addr>,
    #[serde(default)]
    link_local: Vec<IpAddr>,
    #[serde(default)]
    rate: Rate,
    published: Vec<Published>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum AnyAddress {
    Whole((Ipv4Addr, u8)),
    Alone(Ipv4Addr),
}

impl From<AnyEndpoint> for Endpoint {
    fn from(any: AnyEndpoint) -> Self {
        let address = any.address.map(|address| match address {
            AnyAddress::Whole(whole) => whole,
            AnyAddress::Alone(ip) => (ip, any.prefix.unwrap_or(32)),
        });
        Endpoint {
            network: any.network,
            container: any.container,
            ifname: any.ifname,
            host_link: any.host_link,
            mac: any.mac,
            address,
            gateway: any.gateway,
            address6: any.address6,
            gateway6: any.gateway6,
            link_local: any.link_local,
            rate: any.rate,
            published: any.published,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0707070707070707070707070707070707070707070707070707070707070707";

    #[test]
    fn a_network_of_an_older_skep_is_read() {
        let old = format!(
            r#"{{"id":"{ID}","bridge":"skep0","subnet":"172.17.0.0/16","gateway":"172.17.0.5","ip_range":null,
                "subnet6":"fd00::/64","mtu":1500,"icc":true,"masquerade":false,"internal":false,"host_binding":null}}"#
        );
        let network: NetworkConfig = serde_json::from_str(&old).unwrap();
        let bridge = network.as_bridge().unwrap();
        assert_eq!((bridge.name.as_str(), bridge.masquerade, network.subnets.len()), ("skep0", false, 2));
        assert_eq!(network.subnets[0].gateway_address().to_string(), "172.17.0.5");
        let again: NetworkConfig = serde_json::from_str(&serde_json::to_string(&network).unwrap()).unwrap();
        assert_eq!(again, network);
    }

    #[test]
    fn an_endpoint_of_an_older_skep_is_read() {
        let old = format!(
            r#"{{"network":"{ID}","container":"{ID}","ifname":"eth0","host_link":"veth00000000001","mac":"02:42:ac:11:00:02",
                "address":"172.17.0.2","prefix":16,"gateway":"172.17.0.1","address6":null,"gateway6":null,"published":[]}}"#
        );
        let endpoint: Endpoint = serde_json::from_str(&old).unwrap();
        assert_eq!(endpoint.address, Some(([172, 17, 0, 2].into(), 16)));
        assert_eq!(endpoint.host_link.as_deref(), Some("veth00000000001"));
        let again: Endpoint = serde_json::from_str(&serde_json::to_string(&endpoint).unwrap()).unwrap();
        assert_eq!(again, endpoint);
    }
}

//! What changes in the table: elements of its sets and maps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::write::{DELETE_ELEMENT, FilterBatch, NEW_ELEMENT};
use crate::config::Published;
use crate::network::{GatewayMode, NetworkConfig};

/// Elements per message: an attribute holds 64 KiB, and an element takes up to about 100 bytes.
const PER_MESSAGE: usize = 256;
const INTERVAL_END: u32 = 1;

/// An element of a set, or with data of a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    set: &'static str,
    key: Vec<u8>,
    data: Vec<u8>,
    kind: Kind,
}

/// What an element's key is. The beginning of an interval is followed by its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Single,
    Begins,
    /// The first key behind the interval.
    Ends,
}

impl Element {
    /// What makes a bridge one of the engine's; networks of other kinds pass the packet filter by.
    pub(crate) fn of_network(network: &NetworkConfig) -> Vec<Element> {
        let Some(bridge) = network.as_bridge() else { return Vec::new() };
        let name = interface(&bridge.name);
        let mut elements = vec![Element::key("bridges", name.to_vec())];
        if bridge.icc {
            elements.push(Element::key("open_bridge", [name, name].concat()));
        }
        if network.internal {
            elements.push(Element::key("internal", name.to_vec()));
        }
        if !bridge.icc {
            elements.push(Element::key("closed_bridge", [name, name].concat()));
        }
        for host_link in &bridge.trusted_host_interfaces {
            elements.push(Element::key("trusted", [interface(host_link), name].concat()));
        }
        for subnet in network.subnets.iter().map(|subnet| subnet.subnet) {
            let v4 = subnet.addr().is_ipv4();
            elements.extend(Element::interval(if v4 { "subnets" } else { "subnets6" }, subnet));
            let mode = if v4 { bridge.gateway_mode_v4 } else { bridge.gateway_mode_v6 };
            let translated = matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected);
            if bridge.masquerade && translated && !network.internal {
                elements.extend(Element::interval(if v4 { "leaving" } else { "leaving6" }, subnet));
            }
            match mode {
                GatewayMode::NatUnprotected => {
                    elements.push(Element::key(if v4 { "unprotected" } else { "unprotected6" }, name.to_vec()));
                }
                GatewayMode::Routed => {
                    elements.push(Element::key(if v4 { "routed" } else { "routed6" }, name.to_vec()));
                }
                GatewayMode::Nat | GatewayMode::Isolated => {}
            }
        }
        elements
    }

    fn order(&self) -> (&'static str, &[u8]) {
        (self.set, if self.kind == Kind::Single { &self.key } else { &[] })
    }

    fn key(set: &'static str, key: Vec<u8>) -> Element {
        Element { set, key, data: Vec::new(), kind: Kind::Single }
    }

    /// A subnet: its first address, and the first one behind it. (None ends at the very last address.)
    fn interval(set: &'static str, subnet: IpNet) -> [Element; 2] {
        let behind = match subnet.broadcast() {
            IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip).wrapping_add(1)).into(),
            IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip).wrapping_add(1)).into(),
        };
        let begin = Element { kind: Kind::Begins, ..Element::key(set, octets(subnet.network())) };
        [begin, Element { kind: Kind::Ends, ..Element::key(set, octets(behind)) }]
    }

    /// The way from a host port to a container.
    pub(crate) fn of_port(port: &Published) -> Option<Element> {
        if !port.is_translated() {
            return None;
        }
        let set = match (port.host_ip, port.host_ip.is_unspecified()) {
            (IpAddr::V4(_), true) => "published",
            (IpAddr::V4(_), false) => "published_on",
            (IpAddr::V6(_), true) => "published6",
            (IpAddr::V6(_), false) => "published6_on",
        };
        let mut key = if port.host_ip.is_unspecified() { Vec::new() } else { octets(port.host_ip) };
        key.extend([port.protocol.number(), 0, 0, 0]);
        key.extend(number(port.host_port));
        let mut data = octets(port.container_ip);
        data.extend(number(port.container_port));
        Some(Element { set, key, data, kind: Kind::Single })
    }

    /// A port of a container that is open on its own address, to whom the network lets there.
    pub(crate) fn of_direct(network: &NetworkConfig, port: &Published) -> Option<Element> {
        let trusts = network.as_bridge().is_some_and(|bridge| !bridge.trusted_host_interfaces.is_empty());
        if !trusts && network.gateway_mode(port.container_ip) != Some(GatewayMode::Routed) {
            return None;
        }
        let mut key = octets(port.container_ip);
        key.extend([port.protocol.number(), 0, 0, 0]);
        key.extend(number(port.container_port));
        Some(Element::key(if port.container_ip.is_ipv4() { "served" } else { "served6" }, key))
    }
}

/// A port as part of a key or value.
fn number(port: u16) -> [u8; 4] {
    let [a, b] = port.to_be_bytes();
    [a, b, 0, 0]
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// An interface name as a key.
fn interface(name: &str) -> [u8; 16] {
    let mut key = [0; 16];
    for (to, from) in key.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    key
}

/// Puts the elements of a set together, each once. Intervals stay as they are: where one ends at the key that another one
/// begins with, only their own order tells which is which.
pub(crate) fn arrange(elements: &mut Vec<Element>) {
    elements.sort_by(|a, b| a.order().cmp(&b.order()));
    elements.dedup();
}

pub(super) fn add(batch: &mut FilterBatch<'_>, elements: &[Element]) {
    write(batch, NEW_ELEMENT, libc::NLM_F_CREATE, elements);
}

pub(super) fn remove(batch: &mut FilterBatch<'_>, elements: &[Element]) {
    write(batch, DELETE_ELEMENT, 0, elements);
}

fn write(batch: &mut FilterBatch<'_>, kind: u16, flags: i32, elements: &[Element]) {
    let table = batch.table;
    for run in elements.chunk_by(|a, b| a.set == b.set).flat_map(|run| run.chunks(PER_MESSAGE)) {
        batch.message(kind, flags, |m| {
            m.text(1, table);
            m.text(2, run[0].set);
            m.nest(3, |m| {
                for element in run {
                    m.nest(1, |m| {
                        m.nest(1, |m| m.bytes(1, &element.key));
                        if element.kind == Kind::Ends {
                            m.be32(3, INTERVAL_END);
                        }
                        if kind == NEW_ELEMENT && !element.data.is_empty() {
                            m.nest(2, |m| m.bytes(1, &element.data));
                        }
                    });
                }
            });
        });
    }
}

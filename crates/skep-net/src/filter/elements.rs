//! What changes in the table: elements of its sets and maps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::write::{DELETE_ELEMENT, FilterBatch, NEW_ELEMENT};
use crate::config::Published;
use crate::network::NetworkConfig;

/// Elements per message: an attribute holds 64 KiB, and an element takes up to about 100 bytes.
const PER_MESSAGE: usize = 256;
const INTERVAL_END: u32 = 1;

/// An element of a set, or with data of a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    set: &'static str,
    key: Vec<u8>,
    data: Vec<u8>,
    /// The key is the first one after an interval that an element before it began.
    ends_interval: bool,
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
        for subnet in network.subnets.iter().map(|subnet| subnet.subnet) {
            let v4 = subnet.addr().is_ipv4();
            elements.extend(Element::interval(if v4 { "subnets" } else { "subnets6" }, subnet));
            if bridge.masquerade && !network.internal {
                elements.extend(Element::interval(if v4 { "masquerade" } else { "masquerade6" }, subnet));
            }
        }
        elements
    }

    fn key(set: &'static str, key: Vec<u8>) -> Element {
        Element { set, key, data: Vec::new(), ends_interval: false }
    }

    /// A subnet: its first address, and the first one behind it. (None ends at the very last address.)
    fn interval(set: &'static str, subnet: IpNet) -> [Element; 2] {
        let behind = match subnet.broadcast() {
            IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip).wrapping_add(1)).into(),
            IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip).wrapping_add(1)).into(),
        };
        let end = Element { ends_interval: true, ..Element::key(set, octets(behind)) };
        [Element::key(set, octets(subnet.network())), end]
    }

    /// The way from a host port to a container.
    pub(crate) fn of_port(port: &Published) -> Element {
        let number = |n: u16| {
            let [a, b] = n.to_be_bytes();
            [a, b, 0, 0]
        };
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
        Element { set, key, data, ends_interval: false }
    }
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
                        if element.ends_interval {
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

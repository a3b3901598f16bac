//! What changes in the table: elements of its sets and maps.

use std::net::IpAddr;

use super::write::{DELETE_ELEMENT, FilterBatch, NEW_ELEMENT};
use crate::config::{BridgeConfig, Published};

/// Elements per message: an attribute holds 64 KiB, and an element takes up to about 100 bytes.
const PER_MESSAGE: usize = 256;

/// An element of a set, or with data of a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element {
    set: &'static str,
    key: Vec<u8>,
    data: Vec<u8>,
}

impl Element {
    /// What makes a bridge one of the engine's.
    pub(crate) fn of_network(network: &BridgeConfig) -> Vec<Element> {
        let name = interface(&network.bridge);
        let single = |set| Element { set, key: name.to_vec(), data: Vec::new() };
        let pair = |set| Element { set, key: [name, name].concat(), data: Vec::new() };
        let mut elements = vec![single("bridges"), pair("same_bridge")];
        if network.icc {
            elements.push(pair("open_bridge"));
        }
        if network.internal {
            elements.push(single("internal"));
        } else if network.masquerade {
            elements.push(single("masquerade"));
        }
        elements
    }

    /// The way from a host port to a container.
    pub(crate) fn of_port(port: &Published) -> Element {
        let number = |n: u16| {
            let [a, b] = n.to_be_bytes();
            [a, b, 0, 0]
        };
        let octets = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
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
        Element { set, key, data }
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
                        if kind == NEW_ELEMENT && !element.data.is_empty() {
                            m.nest(2, |m| m.bytes(1, &element.data));
                        }
                    });
                }
            });
        });
    }
}

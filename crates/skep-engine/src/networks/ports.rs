//! Which ports of a container are to be published where.

use std::collections::BTreeMap;
use std::net::IpAddr;

use skep_net::{HostPort, PortMapping, Published};
use skep_types::Port;

use super::plug::Plug;
use crate::containers::record::Record;
use crate::model::host::PortBinding;
use crate::{Error, Result};

/// What is to be published: the ports that the user bound, and with `-P` the exposed ones on any free port.
pub(crate) fn mappings(record: &Record) -> Result<Vec<PortMapping>> {
    let mut mappings = bound(&record.host.port_bindings)?;
    if record.host.publish_all_ports {
        let bound = |port: &&Port| record.host.port_bindings.get(port).is_some_and(|bindings| !bindings.is_empty());
        for port in record.config.exposed_ports.iter().filter(|port| !bound(port)) {
            mappings.push(PortMapping {
                host_ip: None,
                host_port: HostPort::Ephemeral,
                container_port: port.number,
                protocol: protocol(*port),
            });
        }
    }
    Ok(mappings)
}

/// What bindings ask for.
pub(crate) fn bound(bindings: &BTreeMap<Port, Vec<PortBinding>>) -> Result<Vec<PortMapping>> {
    let mut mappings = Vec::new();
    for (port, bindings) in bindings {
        for binding in bindings {
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                text => Some(text.parse().map_err(|_| Error::Invalid(format!("invalid IP address: {text}")))?),
            };
            mappings.push(PortMapping {
                host_ip,
                host_port: host_port(&binding.host_port)?,
                container_port: port.number,
                protocol: protocol(*port),
            });
        }
    }
    Ok(mappings)
}

fn protocol(port: Port) -> skep_net::Protocol {
    match port.protocol {
        skep_types::Protocol::Tcp => skep_net::Protocol::Tcp,
        skep_types::Protocol::Udp => skep_net::Protocol::Udp,
        skep_types::Protocol::Sctp => skep_net::Protocol::Sctp,
    }
}

fn host_port(text: &str) -> Result<HostPort> {
    let invalid = || Error::Invalid(format!("invalid port specification: \"{text}\""));
    match text.split_once('-') {
        _ if text.is_empty() => Ok(HostPort::Ephemeral),
        Some((first, last)) => {
            Ok(HostPort::Range(first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?))
        }
        None => match text.parse().map_err(|_| invalid())? {
            0 => Ok(HostPort::Ephemeral),
            port => Ok(HostPort::Exact(port)),
        },
    }
}

/// Those that a network publishes which is the way out for these families. Where the other family has a way out of its own, its
/// addresses are published there.
pub(super) fn of_families(mappings: &[PortMapping], v4: bool, v6: bool, split: bool) -> Vec<PortMapping> {
    let wanted = |host_ip: Option<IpAddr>| match host_ip {
        _ if !v4 && !v6 => false,
        _ if !split => true,
        None => true,
        Some(IpAddr::V4(_)) => v4,
        Some(IpAddr::V6(_)) => v6,
    };
    mappings.iter().filter(|mapping| wanted(mapping.host_ip)).cloned().collect()
}

/// The same ports again, on whichever network.
pub(super) fn again(published: &[Published]) -> Vec<PortMapping> {
    let one = |port: &Published| PortMapping {
        host_ip: Some(port.host_ip),
        host_port: if port.is_translated() { HostPort::Exact(port.host_port) } else { HostPort::Ephemeral },
        container_port: port.container_port,
        protocol: port.protocol,
    };
    published.iter().map(one).collect()
}

/// What is published, as it is stored and shown.
pub(crate) fn published(plugs: &[Plug]) -> BTreeMap<Port, Vec<PortBinding>> {
    let mut ports: BTreeMap<Port, Vec<PortBinding>> = BTreeMap::new();
    for published in plugs.iter().flat_map(|plug| &plug.endpoint.published) {
        let protocol = match published.protocol {
            skep_net::Protocol::Tcp => skep_types::Protocol::Tcp,
            skep_net::Protocol::Udp => skep_types::Protocol::Udp,
            skep_net::Protocol::Sctp => skep_types::Protocol::Sctp,
        };
        let port = Port { number: published.container_port, protocol };
        let host_port = if published.is_translated() { published.host_port.to_string() } else { String::new() };
        let binding = PortBinding { host_ip: published.host_ip.to_string(), host_port };
        let bindings = ports.entry(port).or_default();
        if !bindings.contains(&binding) {
            bindings.push(binding);
        }
    }
    ports
}

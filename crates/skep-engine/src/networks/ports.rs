//! Which ports of a container are to be published where.

use skep_net::{HostPort, PortMapping};
use skep_types::Port;

use crate::containers::record::Record;
use crate::{Error, Result};

/// What is to be published: the ports that the user bound, and with `-P` the exposed ones on any free port.
pub(super) fn port_mappings(record: &Record) -> Result<Vec<PortMapping>> {
    let mut mappings = Vec::new();
    let protocol = |port: &Port| match port.protocol {
        skep_types::Protocol::Tcp => skep_net::Protocol::Tcp,
        skep_types::Protocol::Udp => skep_net::Protocol::Udp,
        skep_types::Protocol::Sctp => skep_net::Protocol::Sctp,
    };
    for (port, bindings) in &record.host.port_bindings {
        for binding in bindings {
            let host_ip = match binding.host_ip.as_str() {
                "" => None,
                text => Some(text.parse().map_err(|_| Error::Invalid(format!("invalid IP address: {text}")))?),
            };
            mappings.push(PortMapping {
                host_ip,
                host_port: host_port(&binding.host_port)?,
                container_port: port.number,
                protocol: protocol(port),
            });
        }
    }
    if record.host.publish_all_ports {
        let bound = |port: &&Port| record.host.port_bindings.get(port).is_some_and(|bindings| !bindings.is_empty());
        for port in record.config.exposed_ports.iter().filter(|port| !bound(port)) {
            mappings.push(PortMapping {
                host_ip: None,
                host_port: HostPort::Ephemeral,
                container_port: port.number,
                protocol: protocol(port),
            });
        }
    }
    Ok(mappings)
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

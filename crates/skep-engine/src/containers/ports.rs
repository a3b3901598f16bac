//! The ports that a container publishes change while it exists, running or not.

use std::collections::BTreeMap;

use skep_net::Netns;
use skep_types::Port;

use super::record::Record;
use super::task::Task;
use crate::engine::Inner;
use crate::model::host::PortBinding;
use crate::model::network::NetworkMode;
use crate::model::request::ChangePorts;
use crate::networks::{self, Plug};
use crate::{Error, Result};

type Bindings = BTreeMap<Port, Vec<PortBinding>>;

impl Task {
    /// Publishes ports and takes others back. On failure it is as it was.
    pub(super) async fn change_ports(&mut self, mut change: ChangePorts) -> Result<()> {
        if matches!(self.record.host.network_mode, NetworkMode::Host | NetworkMode::Container(_)) {
            return Err(Error::Invalid(
                "conflicting options: port publishing and the network of the host or of another container".to_owned(),
            ));
        }
        for bindings in change.unpublish.values_mut().filter(|bindings| bindings.is_empty()) {
            bindings.push(anywhere());
        }
        let mut record = self.record.clone();
        take_back(&mut record, &change.unpublish)?;
        for (port, bindings) in &change.publish {
            let known = record.host.port_bindings.entry(*port).or_default();
            known.extend(bindings.iter().filter(|binding| !self.publishes(*port, binding)).cloned());
            record.config.exposed_ports.insert(*port);
        }
        let (added, removed) = (networks::port_mappings(&change.publish)?, networks::port_mappings(&change.unpublish)?);
        let before = self.running.as_ref().map(|running| running.plugs.clone()).unwrap_or_default();
        let in_force = move |engine: &Inner, record: &Record, _: &Netns, plugs: &mut Vec<Plug>| {
            engine.networks.change_ports(engine, record, &added, &removed, plugs).map(|()| None)
        };
        let undo =
            move |engine: &Inner, _: &Netns, plugs: &mut Vec<Plug>| engine.networks.put_ports_back(&before, plugs);
        self.change_networks(record, in_force, undo).await
    }

    fn publishes(&self, port: Port, binding: &PortBinding) -> bool {
        self.record.host.port_bindings.get(&port).is_some_and(|bindings| bindings.contains(binding))
    }
}

fn anywhere() -> PortBinding {
    PortBinding { host_ip: String::new(), host_port: String::new() }
}

/// Removes what `going` means from what is to be published at each start; a port that got its number by itself is meant by that
/// number, too.
fn take_back(record: &mut Record, going: &Bindings) -> Result<()> {
    for (port, bindings) in going {
        for binding in bindings {
            let in_force = record.ports.get(port).into_iter().flatten().any(|there| means(binding, there));
            let known = record.host.port_bindings.entry(*port).or_default();
            let count = known.len();
            known.retain(|there| !means(binding, there));
            if known.len() == count && in_force {
                known.retain(|there| !there.host_port.is_empty());
            }
            if known.len() == count && !in_force {
                return Err(Error::Invalid(format!("port {port} is not published{}", described(binding))));
            }
        }
        if record.host.port_bindings.get(port).is_some_and(Vec::is_empty) {
            record.host.port_bindings.remove(port);
        }
    }
    Ok(())
}

fn means(wanted: &PortBinding, there: &PortBinding) -> bool {
    (wanted.host_ip.is_empty() || wanted.host_ip == there.host_ip)
        && (wanted.host_port.is_empty() || wanted.host_port == there.host_port)
}

fn described(binding: &PortBinding) -> String {
    match (binding.host_ip.as_str(), binding.host_port.as_str()) {
        ("", "") => String::new(),
        ("", port) => format!(" on port {port} of the host"),
        (ip, "") => format!(" on {ip}"),
        (ip, port) => format!(" on {ip}:{port}"),
    }
}

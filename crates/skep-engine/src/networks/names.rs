//! What containers are told about names: the names in their networks, the host's addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use skep_dns::names::{self, Entry};
use skep_types::NetworkId;

use super::{Networks, resolver};
use crate::config::EngineConfig;
use crate::engine::Inner;
use crate::{Error, Result};

/// The state of the files of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// As the last daemon left them: the containers that run are still being found, and must not lose their names meanwhile.
    Inherited,
    /// Written whenever something changes.
    Kept,
}

/// Begins to keep the files, when all containers that run are known. Blocking.
pub(crate) fn take_over(engine: &Inner) -> Result<()> {
    let mut state = engine.networks.writing.lock();
    *state = Files::Kept;
    let mut networks: BTreeSet<NetworkId> = engine.networks.members.lock().keys().copied().collect();
    let directory = resolver::names_directory(engine);
    crate::storage::make_dir(&directory, 0o700)?;
    let entries = std::fs::read_dir(&directory);
    let entries = entries.map_err(|e| Error::system(format!("reading {}", directory.display()), e))?;
    networks.extend(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<NetworkId>().ok()));
    networks.into_iter().try_for_each(|network| write(engine, network))
}

/// Writes the names of these networks anew, for whoever looks them up. To be called wherever members, names or addresses
/// have changed, and when a network is gone. Blocking.
pub(crate) fn refresh(engine: &Inner, networks: &[NetworkId]) {
    let state = engine.networks.writing.lock();
    if *state == Files::Inherited {
        return;
    }
    for network in networks {
        if let Err(error) = write(engine, *network) {
            tracing::warn!(%network, %error, "writing the names in a network");
        }
    }
}

fn write(engine: &Inner, network: NetworkId) -> Result<()> {
    let file = resolver::names_file(engine, network);
    let Some(directory) = file.parent() else { return Ok(()) };
    let members = engine.networks.members(network).into_values();
    let entries: Vec<Entry> = members
        .filter_map(|member| {
            let mut names = member.names.into_iter();
            Some(Entry {
                container: names.next()?,
                aliases: names.collect(),
                addresses: member.addresses,
                ports: member.ports,
            })
        })
        .collect();
    if entries.is_empty() {
        return match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::system(format!("removing {}", directory.display()), error))
            }
            _ => Ok(()),
        };
    }
    crate::storage::make_dir(directory, 0o700)?;
    resolver::replace(&file, names::text(&entries).as_bytes())
}

impl Networks {
    /// The addresses of the host as containers see it (`host-gateway`).
    pub(crate) fn host_gateways(&self, config: &EngineConfig) -> Vec<IpAddr> {
        if !config.host_gateways.is_empty() {
            return config.host_gateways.clone();
        }
        let Some(bridge) = self.default_bridge() else { return Vec::new() };
        let subnets = [bridge.subnet4(), bridge.subnet6()];
        subnets.into_iter().flatten().map(|subnet| subnet.gateway_address()).collect()
    }
}

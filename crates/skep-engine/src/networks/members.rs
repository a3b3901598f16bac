//! Who is in which network under which names and addresses, from the moment a container is plugged in until it is unplugged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use skep_types::{ContainerId, NetworkId, Port};

use super::Networks;
use crate::containers::record::Record;
use crate::engine::Inner;

/// A container as others in its network may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name first, then its aliases, its short id, its host name. None in networks that have no names.
    pub(crate) names: Vec<String>,
    /// One of each family at most.
    pub(crate) addresses: Vec<IpAddr>,
    /// What it serves, by its own word.
    pub(crate) ports: Vec<Port>,
}

/// By network, then by container.
pub(super) type Members = BTreeMap<NetworkId, BTreeMap<ContainerId, Member>>;

impl Networks {
    /// The containers in a network now.
    pub(crate) fn members(&self, network: NetworkId) -> BTreeMap<ContainerId, Member> {
        self.members.lock().get(&network).cloned().unwrap_or_default()
    }

    /// Takes what a container's record says of its places in networks, now; tells in which networks something changed.
    fn register(&self, record: &Record) -> BTreeSet<NetworkId> {
        let attached = record.endpoints.values().filter_map(|place| {
            let at = place.attached.as_ref()?;
            let addresses = at.address.map(IpAddr::V4).into_iter();
            let addresses = addresses.chain(at.address6.map(|(address, _)| IpAddr::V6(address))).collect();
            let ports = record.config.exposed_ports.iter().copied().collect();
            Some((place.network, Member { names: place.names.clone(), addresses, ports }))
        });
        let now: BTreeMap<NetworkId, Member> = attached.collect();
        let mut members = self.members.lock();
        let mut changed = BTreeSet::new();
        for (network, containers) in members.iter_mut() {
            if !now.contains_key(network) && containers.remove(&record.id).is_some() {
                changed.insert(*network);
            }
        }
        for (network, member) in now {
            let containers = members.entry(network).or_default();
            if containers.get(&record.id) != Some(&member) {
                containers.insert(record.id, member);
                changed.insert(network);
            }
        }
        members.retain(|_, containers| !containers.is_empty());
        changed
    }
}

/// Takes the places of a container that an earlier daemon started. Nobody is told before all of them are known
/// ([`super::names::take_over`]).
pub(crate) fn remember(engine: &Inner, record: &Record) {
    engine.networks.register(record);
}

/// Tells everyone who has to know of a container's places in networks as its record says them. Blocking.
pub(crate) fn announce(engine: &Inner, record: &Record) {
    let changed: Vec<NetworkId> = engine.networks.register(record).into_iter().collect();
    if !changed.is_empty() {
        super::names::refresh(engine, &changed);
    }
}

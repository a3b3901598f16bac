//! What an engine finds again after a restart.

use std::collections::{BTreeMap, BTreeSet};

use skep_types::NetworkId;

use super::state::State;
use crate::bridge::{self, failed};
use crate::config::{Endpoint, Restored, Saved};
use crate::error::NetError;
use crate::netlink::{Batch, route};

impl State {
    pub(super) fn restore(&mut self, saved: Saved) -> Result<Restored, NetError> {
        let mut restored = Restored::default();
        for config in saved.networks {
            let id = config.id;
            if let Err(error) = config.check().and_then(|()| self.add_network(config)) {
                restored.failed.push((id, error));
            }
        }
        let links = self.route.links().map_err(|e| failed("list", "links", e))?;
        let bridges: BTreeMap<u32, NetworkId> = self.networks.values().map(|n| (n.index, n.config.id)).collect();
        let mut known = BTreeSet::new();
        for endpoint in saved.endpoints {
            // What has no end on the host is in its container's namespace, for as long as there is one.
            let Some(host_link) = &endpoint.host_link else {
                self.restore_endpoint(&endpoint, &mut restored);
                continue;
            };
            known.insert(host_link.clone());
            let link = links.iter().find(|link| link.name == *host_link && link.kind == "veth");
            match (link, self.networks.get_mut(&endpoint.network)) {
                (Some(link), Some(network)) => {
                    if link.master != Some(network.index) {
                        let mut batch = Batch::new();
                        route::set_master(&mut batch, link.index, network.index);
                        self.route.run(&batch).map_err(|e| failed("plug", host_link, e))?;
                    }
                    self.restore_endpoint(&endpoint, &mut restored);
                }
                _ => restored.lost.push(endpoint),
            }
        }
        // What an engine that was killed had plugged in but not yet stored.
        let ours = links
            .iter()
            .filter(|l| l.master.is_some_and(|m| bridges.contains_key(&m)) && bridge::is_host_link(&l.name));
        for link in ours.filter(|link| !known.contains(&link.name)) {
            bridge::delete(&mut self.route, &link.name)?;
        }
        Ok(restored)
    }

    fn restore_endpoint(&mut self, endpoint: &Endpoint, restored: &mut Restored) {
        if let Some(network) = self.networks.get_mut(&endpoint.network) {
            network.restore(endpoint);
        }
        for port in &endpoint.published {
            if let Some(holder) = self.ports.restore(endpoint.container, port) {
                restored.contested.push((endpoint.container, *port, holder));
            }
            self.published.insert((endpoint.network, *port));
        }
        if let Err(error) = self.allow_loopback(endpoint.network, &endpoint.published) {
            tracing::warn!(%error, "ports on loopback stay closed");
        }
    }
}

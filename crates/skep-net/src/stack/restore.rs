//! What an engine finds again after a restart.

use std::collections::{BTreeMap, BTreeSet};

use skep_types::NetworkId;

use super::state::State;
use crate::bridge::{self, failed};
use crate::config::{Endpoint, Restored, Saved};
use crate::error::NetError;
use crate::netlink::{Batch, route};
use crate::rate;

impl State {
    pub(super) fn restore(&mut self, saved: Saved) -> Result<Restored, NetError> {
        let mut restored = Restored::default();
        let mut known = BTreeSet::new();
        for config in saved.networks {
            let id = config.id;
            // Those of a network that can't be set up stay too: containers may be plugged in.
            known.extend(config.as_bridge().map(|bridge| bridge.name.clone()).or_else(|| config.link.parent(&id)));
            if let Err(error) = config.check().and_then(|()| self.add_network(config)) {
                restored.failed.push((id, error));
            }
        }
        let links = self.route.links().map_err(|e| failed("list", "links", e))?;
        let bridges: BTreeMap<u32, NetworkId> = self.networks.values().map(|n| (n.index, n.config.id)).collect();
        for endpoint in saved.endpoints {
            // What has no end on the host is in its container's namespace, for as long as there is one.
            let Some(host_link) = &endpoint.host_link else {
                self.restore_endpoint(&endpoint, &mut restored);
                continue;
            };
            known.extend([host_link.clone(), rate::helper_of(host_link)]);
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
        // What an engine that was killed had made but not yet stored.
        let ours = links.iter().filter(|link| {
            let plugged = link.master.is_some_and(|master| bridges.contains_key(&master));
            link.alias == self.mark || plugged && bridge::is_host_link(&link.name)
        });
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

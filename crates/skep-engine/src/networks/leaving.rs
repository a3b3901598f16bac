//! Containers on their way out of networks: the user has been told that they are gone, while the kernel still deletes their links.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use skep_types::NetworkId;

use super::plug::Plug;

/// How long the removal of a network waits for them. The kernel takes some 20 ms for each.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many leave each network now.
#[derive(Default)]
pub(super) struct Exits {
    counts: Mutex<BTreeMap<NetworkId, usize>>,
    fewer: Condvar,
}

/// Held until a container has left its networks.
pub(crate) struct Leaving {
    exits: Arc<Exits>,
    networks: Vec<NetworkId>,
}

impl Exits {
    pub(super) fn begin(self: &Arc<Self>, plugs: &[Plug]) -> Leaving {
        let networks: Vec<NetworkId> = plugs.iter().map(|plug| plug.endpoint.network).collect();
        let mut counts = self.counts.lock();
        for network in &networks {
            *counts.entry(*network).or_default() += 1;
        }
        Leaving { exits: self.clone(), networks }
    }

    /// Waits until nobody leaves the network any more; tells whether there was anybody. Blocking.
    pub(super) fn wait(&self, network: NetworkId) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut counts = self.counts.lock();
        let were_there = counts.contains_key(&network);
        while counts.contains_key(&network) && !self.fewer.wait_until(&mut counts, deadline).timed_out() {}
        were_there
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let mut counts = self.exits.counts.lock();
        for network in &self.networks {
            if let Some(count) = counts.get_mut(network) {
                *count -= 1;
            }
        }
        counts.retain(|_, count| *count > 0);
        self.exits.fewer.notify_all();
    }
}

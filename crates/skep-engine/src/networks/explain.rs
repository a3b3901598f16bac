//! Who can reach a container, and what of the host's firewall is in the way of all of them.

use std::net::IpAddr;

use skep_net::explain::{Explanation, Obstacle};
use skep_types::NetworkId;

use super::Networks;
use crate::{Error, Result};

impl Networks {
    /// Who can reach the container with `addresses` in a network; `None` if there is no bridge at all. Blocking.
    pub(crate) fn explain(&self, network: NetworkId, addresses: &[IpAddr]) -> Result<Option<Explanation>> {
        let Some(stack) = self.stack.get() else { return Ok(None) };
        stack
            .explain(network, addresses)
            .map(Some)
            .map_err(|e| Error::system("reading the rules of the packet filter", e))
    }

    /// What the host's firewall drops of the traffic of containers, and what to do about it. Blocking.
    pub(crate) fn obstacles(&self) -> Vec<String> {
        let found = self.stack.get().map_or(Ok(Vec::new()), skep_net::NetworkStack::obstacles);
        match found {
            Ok(found) => found.iter().map(words).collect(),
            Err(error) => vec![format!("The host's firewall could not be read: {error}")],
        }
    }

    /// Says at the start what would be puzzled about later. Blocking.
    pub(crate) fn report_obstacles(&self) {
        for obstacle in self.obstacles() {
            tracing::warn!("{obstacle}");
        }
    }
}

fn words(obstacle: &Obstacle) -> String {
    let Obstacle { outgoing, rule, advice } = obstacle;
    let what = if *outgoing { "what containers send to other hosts" } else { "what is sent to published ports" };
    let text = format!("{} {}: {}", rule.table, rule.chain, rule.rule);
    format!(
        "The host's firewall drops {what} ({text}). To let it pass: {advice}; or set \"host-firewall\" to \"bypass\""
    )
}

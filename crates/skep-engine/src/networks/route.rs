//! In which order a container's networks are plugged in, and which of them leads to the world.
//!
//! The network with the highest gateway priority goes first, and among equals the one whose name sorts first. The first that
//! has a way out for both families has both default routes; else the first for each. Ports are published there too.

use std::sync::Arc;

use skep_net::{GatewayMode, LinkConfig, NetworkConfig};

use super::{Networks, StoredNetwork, words};
use crate::Result;
use crate::containers::record::Record;
use crate::model::network::EndpointSettings;

/// A network that a container is to be plugged into.
#[derive(Debug, Clone)]
pub(super) struct Leg {
    pub(super) network: Arc<StoredNetwork>,
    pub(super) config: NetworkConfig,
    pub(super) settings: EndpointSettings,
}

/// Which of a container's networks have its default routes, by their place in the order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gateways {
    pub(super) v4: Option<usize>,
    pub(super) v6: Option<usize>,
}

impl Networks {
    /// The networks of a container that the kernel has a part in, in their order.
    pub(super) fn legs(&self, record: &Record) -> Result<Vec<Leg>> {
        let mut legs = Vec::new();
        for (name, endpoint) in &record.endpoints {
            let network = self.of_endpoint(name, endpoint.network).map_err(|_| words::missing(name))?;
            if let Some(config) = network.config.clone() {
                legs.push(Leg { network, config, settings: endpoint.settings.clone() });
            }
        }
        sort(&mut legs);
        Ok(legs)
    }
}

pub(super) fn sort(legs: &mut [Leg]) {
    // By name they are already, as the record's map is.
    legs.sort_by(|a, b| {
        b.settings.gateway_priority.cmp(&a.settings.gateway_priority).then_with(|| a.network.name.cmp(&b.network.name))
    });
}

pub(super) fn gateways<'a>(configs: impl Iterator<Item = &'a NetworkConfig>) -> Gateways {
    let mut found = Gateways::default();
    for (index, config) in configs.enumerate() {
        match (leads_out(config, true), leads_out(config, false)) {
            (true, true) => return Gateways { v4: Some(index), v6: Some(index) },
            (true, false) => found.v4 = found.v4.or(Some(index)),
            (false, true) => found.v6 = found.v6.or(Some(index)),
            (false, false) => {}
        }
    }
    found
}

fn leads_out(config: &NetworkConfig, v4: bool) -> bool {
    let subnet = if v4 { config.subnet4() } else { config.subnet6() };
    let isolated = match &config.link {
        LinkConfig::Bridge(bridge) => {
            let mode = if v4 { bridge.gateway_mode_v4 } else { bridge.gateway_mode_v6 };
            mode == GatewayMode::Isolated
        }
        LinkConfig::Macvlan { .. } | LinkConfig::Ipvlan { .. } => false,
    };
    subnet.is_some() && !config.internal && !isolated
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_net::Subnet;
    use skep_types::NetworkId;

    fn network(subnets: &[&str], internal: bool) -> NetworkConfig {
        let id = NetworkId::from_bytes([0; 32]);
        let mut config = NetworkConfig::bridge(id, "br0", "10.0.0.0/24".parse::<ipnet::Ipv4Net>().unwrap());
        config.subnets = subnets.iter().map(|text| Subnet::new(text.parse::<ipnet::IpNet>().unwrap())).collect();
        config.internal = internal;
        config
    }

    #[test]
    fn the_first_with_both_families_is_the_way_out() {
        let v4 = || network(&["10.1.0.0/24"], false);
        let v6 = || network(&["fd00::/64"], false);
        let both = || network(&["10.2.0.0/24", "fd01::/64"], false);
        let inside = || network(&["10.3.0.0/24"], true);
        let of = |configs: &[NetworkConfig]| gateways(configs.iter());
        assert_eq!(of(&[inside()]), Gateways::default());
        assert_eq!(of(&[inside(), v4(), v4()]), Gateways { v4: Some(1), v6: None });
        assert_eq!(of(&[v4(), v6()]), Gateways { v4: Some(0), v6: Some(1) });
        assert_eq!(of(&[v4(), both()]), Gateways { v4: Some(1), v6: Some(1) });
    }
}

//! Networks as they are shown.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::{BRIDGE, StoredNetwork};
use crate::model::network::{IpamPool, NetworkMember, NetworkView};
use crate::model::view::ContainerView;

pub(super) fn view(network: &StoredNetwork, containers: &[Arc<ContainerView>]) -> NetworkView {
    let members = containers.iter().filter_map(|container| {
        let attached = container.endpoints.get(&network.name).filter(|endpoint| endpoint.network == network.id)?;
        let running = container.status.running().is_some();
        let (endpoint_id, mac, ipv4) = match &attached.attached {
            Some(at) => (at.endpoint_id.clone(), at.mac.clone(), format!("{}/{}", at.address, at.prefix)),
            None => (String::new(), String::new(), String::new()),
        };
        running.then(|| (container.id, NetworkMember { name: container.name.to_string(), endpoint_id, mac, ipv4 }))
    });
    let mut options = BTreeMap::new();
    let mut ipam = Vec::new();
    let config = network.bridge.as_ref();
    for subnet in config.iter().flat_map(|config| &config.subnets) {
        ipam.push(IpamPool { subnet: subnet.subnet.to_string(), gateway: subnet.gateway_address().to_string() });
    }
    if let Some((config, bridge)) = config.and_then(|config| Some((config, config.as_bridge()?))) {
        let option = |name: &str| format!("com.docker.network.{name}");
        options.insert(option("bridge.default_bridge"), (network.name == BRIDGE).to_string());
        options.insert(option("bridge.enable_icc"), bridge.icc.to_string());
        options.insert(option("bridge.enable_ip_masquerade"), bridge.masquerade.to_string());
        let host_ip = bridge.host_binding.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        options.insert(option("bridge.host_binding_ipv4"), host_ip.to_string());
        options.insert(option("bridge.name"), bridge.name.clone());
        options.insert(option("driver.mtu"), config.mtu.unwrap_or(1500).to_string());
    }
    NetworkView {
        id: network.id,
        name: network.name.clone(),
        created: network.created,
        driver: match network.name.as_str() {
            "host" => "host",
            "none" => "null",
            _ => "bridge",
        }
        .to_owned(),
        internal: network.bridge.as_ref().is_some_and(|bridge| bridge.internal),
        ipam,
        options,
        labels: BTreeMap::new(),
        containers: members.collect(),
    }
}

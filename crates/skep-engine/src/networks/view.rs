//! Networks as they are shown.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use skep_net::{GatewayMode, NetworkConfig, Subnet};

use super::{BRIDGE, StoredNetwork};
use crate::model::network::{Attached, Ipam, IpamPool, NetworkMember, NetworkView};
use crate::model::view::ContainerView;

pub(super) fn view(network: &StoredNetwork, containers: &[Arc<ContainerView>]) -> NetworkView {
    let members = containers.iter().filter_map(|container| {
        let place = container.endpoints.values().find(|place| place.network == network.id)?;
        container.status.running()?;
        Some((container.id, member(container.name.to_string(), place.attached.as_ref())))
    });
    let settings = &network.settings;
    NetworkView {
        id: network.id,
        name: network.name.clone(),
        created: network.created,
        driver: network.driver().to_owned(),
        scope: settings.scope.clone(),
        ipv4: settings.ipv4,
        ipv6: match (&network.config, network.is_predefined()) {
            (Some(config), true) => config.subnet6().is_some(),
            _ => settings.ipv6,
        },
        internal: settings.internal,
        attachable: settings.attachable,
        config_only: settings.config_only,
        config_from: settings.config_from.clone(),
        ipam: ipam(network),
        options: match &network.config {
            Some(config) if network.name == BRIDGE => default_options(config),
            _ => settings.options.clone(),
        },
        labels: settings.labels.clone(),
        containers: members.collect(),
    }
}

fn member(name: String, attached: Option<&Attached>) -> NetworkMember {
    let Some(at) = attached else { return NetworkMember { name, ..NetworkMember::default() } };
    NetworkMember {
        name,
        endpoint_id: at.endpoint_id.clone(),
        mac: at.mac.clone(),
        ipv4: at.address.map(|address| format!("{address}/{}", at.prefix)).unwrap_or_default(),
        ipv6: at.address6.map(|(address, prefix)| format!("{address}/{prefix}")).unwrap_or_default(),
    }
}

/// The pools that were asked for as they were, and those that the engine chose.
fn ipam(network: &StoredNetwork) -> Ipam {
    let mut ipam = network.settings.ipam.clone();
    let asked = |subnet: &Subnet| {
        let text = subnet.subnet.to_string();
        network.settings.ipam.pools.iter().any(|pool| pool.subnet == text)
    };
    if let Some(config) = &network.config {
        let chosen = config.subnets.iter().filter(|subnet| !asked(subnet));
        ipam.pools.extend(chosen.map(|subnet| pool(config, subnet)));
    }
    ipam
}

fn pool(config: &NetworkConfig, subnet: &Subnet) -> IpamPool {
    let isolated = config.gateway_mode(subnet.subnet.addr()) == Some(GatewayMode::Isolated);
    IpamPool {
        subnet: subnet.subnet.to_string(),
        range: subnet.range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: if isolated { String::new() } else { subnet.gateway_address().to_string() },
        auxiliary: BTreeMap::new(),
    }
}

/// The default bridge is set up by the daemon's settings, and shows them as options.
fn default_options(config: &NetworkConfig) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    let Some(bridge) = config.as_bridge() else { return options };
    let host_ip = bridge.host_binding.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    for (name, value) in [
        ("bridge.default_bridge", "true".to_owned()),
        ("bridge.enable_icc", bridge.icc.to_string()),
        ("bridge.enable_ip_masquerade", bridge.masquerade.to_string()),
        ("bridge.host_binding_ipv4", host_ip.to_string()),
        ("bridge.name", bridge.name.clone()),
        ("driver.mtu", config.mtu.unwrap_or(1500).to_string()),
    ] {
        options.insert(format!("com.docker.network.{name}"), value);
    }
    options
}

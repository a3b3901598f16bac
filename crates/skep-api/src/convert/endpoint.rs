//! A container's place in a network, in both directions.

use std::net::IpAddr;

use skep_engine::model::network::{Endpoint, EndpointSettings};
use skep_wire::EndpointIpamConfig;

use crate::http::ApiError;

pub(crate) fn settings(wire: skep_wire::EndpointSettings) -> Result<EndpointSettings, ApiError> {
    let ipam = wire.ipam_config.unwrap_or_default();
    let invalid = |what: &str, text: &str| {
        ApiError::invalid(format!("invalid endpoint settings:\ninvalid {what} address: {text}"))
    };
    let ipv4_address = match ipam.ipv4_address.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| invalid("IPv4", text))?),
    };
    let ipv6_address = match ipam.ipv6_address.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| invalid("IPv6", text))?),
    };
    let local = |text: &String| text.parse::<IpAddr>().map_err(|_| invalid("link-local IP", text));
    Ok(EndpointSettings {
        ipv4_address,
        ipv6_address,
        link_local: ipam.link_local_ips.iter().map(local).collect::<Result<_, _>>()?,
        mac_address: Some(wire.mac_address).filter(|mac| !mac.is_empty()),
        aliases: wire.aliases,
        links: wire.links,
        driver_options: wire.driver_opts,
        gateway_priority: wire.gw_priority,
    })
}

/// As inspect shows it: addresses are empty while the container doesn't run.
pub(crate) fn endpoint(endpoint: &Endpoint) -> skep_wire::EndpointSettings {
    let settings = &endpoint.settings;
    let wish = EndpointIpamConfig {
        ipv4_address: settings.ipv4_address.map(|address| address.to_string()).unwrap_or_default(),
        ipv6_address: settings.ipv6_address.map(|address| address.to_string()).unwrap_or_default(),
        link_local_ips: settings.link_local.iter().map(IpAddr::to_string).collect(),
    };
    let wire = skep_wire::EndpointSettings {
        ipam_config: Some(wish).filter(|wish| *wish != EndpointIpamConfig::default()),
        links: settings.links.clone(),
        aliases: settings.aliases.clone(),
        mac_address: settings.mac_address.clone().unwrap_or_default(),
        driver_opts: settings.driver_options.clone(),
        gw_priority: settings.gateway_priority,
        network_id: endpoint.network.to_string(),
        dns_names: endpoint.names.clone(),
        ..skep_wire::EndpointSettings::default()
    };
    let Some(attached) = &endpoint.attached else { return wire };
    let (address6, prefix6) = attached.address6.map_or((None, 0), |(address, prefix)| (Some(address), prefix));
    let text = |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    skep_wire::EndpointSettings {
        mac_address: attached.mac.clone(),
        endpoint_id: attached.endpoint_id.clone(),
        gateway: text(attached.gateway.map(IpAddr::V4)),
        ip_address: text(attached.address.map(IpAddr::V4)),
        ip_prefix_len: i64::from(attached.prefix),
        ipv6_gateway: text(attached.gateway6.map(IpAddr::V6)),
        global_ipv6_address: text(address6.map(IpAddr::V6)),
        global_ipv6_prefix_len: i64::from(prefix6),
        ..wire
    }
}

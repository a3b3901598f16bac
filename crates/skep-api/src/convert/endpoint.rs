//! A container's place in a network, in both directions.

use skep_engine::model::network::{Endpoint, EndpointSettings};
use skep_wire::EndpointIpamConfig;

use crate::http::ApiError;

pub(crate) fn settings(wire: skep_wire::EndpointSettings) -> Result<EndpointSettings, ApiError> {
    let refuse = |field: &str| ApiError::unsupported(format!("EndpointsConfig.{field}"));
    let ipam = wire.ipam_config.unwrap_or_default();
    if !ipam.ipv6_address.is_empty() {
        return Err(refuse("IPAMConfig.IPv6Address"));
    }
    if !ipam.link_local_ips.is_empty() {
        return Err(refuse("IPAMConfig.LinkLocalIPs"));
    }
    if !wire.links.is_empty() {
        return Err(refuse("Links"));
    }
    if !wire.driver_opts.is_empty() {
        return Err(refuse("DriverOpts"));
    }
    if wire.gw_priority != 0 {
        return Err(refuse("GwPriority"));
    }
    let ipv4_address = match ipam.ipv4_address.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|_| ApiError::invalid(format!("invalid endpoint settings:\ninvalid IPv4 address: {text}")))?,
        ),
    };
    Ok(EndpointSettings {
        ipv4_address,
        mac_address: Some(wire.mac_address).filter(|mac| !mac.is_empty()),
        aliases: wire.aliases,
    })
}

/// As inspect shows it: addresses are empty while the container doesn't run.
pub(crate) fn endpoint(endpoint: &Endpoint) -> skep_wire::EndpointSettings {
    let settings = &endpoint.settings;
    let ipam_config = settings
        .ipv4_address
        .map(|address| EndpointIpamConfig { ipv4_address: address.to_string(), ..EndpointIpamConfig::default() });
    let wire = skep_wire::EndpointSettings {
        ipam_config,
        aliases: settings.aliases.clone(),
        mac_address: settings.mac_address.clone().unwrap_or_default(),
        network_id: endpoint.network.to_string(),
        ..skep_wire::EndpointSettings::default()
    };
    let Some(attached) = &endpoint.attached else { return wire };
    skep_wire::EndpointSettings {
        mac_address: attached.mac.clone(),
        endpoint_id: attached.endpoint_id.clone(),
        gateway: attached.gateway.to_string(),
        ip_address: attached.address.to_string(),
        ip_prefix_len: i64::from(attached.prefix),
        ..wire
    }
}

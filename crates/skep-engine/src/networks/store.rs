//! Networks as they are stored.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use skep_net::BridgeConfig;
use skep_types::NetworkId;

use super::random_id;
use crate::config::{BridgeSettings, EngineConfig};

/// A network in the database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredNetwork {
    pub(crate) name: String,
    pub(crate) created: DateTime<Utc>,
    pub(crate) id: NetworkId,
    /// Absent for `host` and `none`, which need nothing of the kernel.
    pub(crate) bridge: Option<BridgeConfig>,
}

/// The default bridge as the settings want it. A subnet of length 0 stands for one that is still to be chosen; one that was
/// chosen before is kept.
pub(super) fn wanted_bridge(config: &EngineConfig, stored: Option<&BridgeConfig>) -> Option<BridgeConfig> {
    let BridgeSettings::Managed { link, address, range, mtu, inter_container, masquerade, default_host_ip } =
        &config.bridge
    else {
        return None;
    };
    let id = stored.map_or_else(random_id, |bridge| bridge.id);
    let subnet = match (address, stored) {
        (Some((ip, prefix)), _) => ipnet::Ipv4Net::new(*ip, *prefix).ok()?.trunc(),
        (None, Some(bridge)) => bridge.subnet,
        (None, None) => ipnet::Ipv4Net::default(),
    };
    let mut bridge = BridgeConfig::new(id, link.clone(), subnet);
    bridge.gateway = match address {
        Some((ip, _)) => Some(*ip),
        None => stored.and_then(|bridge| bridge.gateway),
    };
    bridge.ip_range = range.and_then(|(ip, prefix)| ipnet::Ipv4Net::new(ip, prefix).ok());
    bridge.mtu = Some(*mtu);
    bridge.icc = *inter_container;
    bridge.masquerade = *masquerade;
    bridge.host_binding = (!default_host_ip.is_unspecified()).then_some(IpAddr::V4(*default_host_ip));
    Some(bridge)
}

//! Networks as they are stored.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use skep_net::{BridgeLink, LinkConfig, NetworkConfig, Subnet};
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
    pub(crate) bridge: Option<NetworkConfig>,
}

/// The default bridge as the settings want it. Without a subnet one is still to be chosen; one that was chosen before is
/// kept.
pub(super) fn wanted_bridge(config: &EngineConfig, stored: Option<&NetworkConfig>) -> Option<NetworkConfig> {
    let BridgeSettings::Managed { link, address, range, mtu, inter_container, masquerade, default_host_ip } =
        &config.bridge
    else {
        return None;
    };
    let old = stored.and_then(NetworkConfig::subnet4);
    let range = range.and_then(|(ip, prefix)| ipnet::IpNet::new(ip.into(), prefix).ok());
    let subnet = match (address, old) {
        (Some((ip, prefix)), _) => {
            let net = ipnet::Ipv4Net::new(*ip, *prefix).ok()?.trunc();
            Some(Subnet { gateway: Some(IpAddr::V4(*ip)), range, ..Subnet::new(net) })
        }
        (None, Some(old)) => Some(Subnet { range, ..old.clone() }),
        (None, None) => None,
    };
    let bridge = BridgeLink {
        icc: *inter_container,
        masquerade: *masquerade,
        host_binding: (!default_host_ip.is_unspecified()).then_some(IpAddr::V4(*default_host_ip)),
        ..BridgeLink::new(link.clone())
    };
    Some(NetworkConfig {
        id: stored.map_or_else(random_id, |network| network.id),
        link: LinkConfig::Bridge(bridge),
        subnets: subnet.into_iter().collect(),
        mtu: Some(*mtu),
        internal: false,
    })
}

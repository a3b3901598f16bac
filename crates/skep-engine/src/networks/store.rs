//! Networks as they are stored.

use std::collections::BTreeMap;
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use skep_net::{NetworkConfig, Subnet};
use skep_types::NetworkId;

use super::random_id;
use crate::config::{BridgeSettings, EngineConfig};
use crate::model::network::{Ipam, is_predefined};

/// A network in the database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredNetwork {
    pub(crate) name: String,
    pub(crate) created: DateTime<Utc>,
    pub(crate) id: NetworkId,
    /// What the kernel is to have of it; absent for networks that need nothing of it: `host`, `none`, settings only.
    #[serde(alias = "bridge")]
    pub(crate) config: Option<NetworkConfig>,
    #[serde(default)]
    pub(crate) settings: Settings,
}

/// What was asked for. Rows of the first daemons, which had the predefined networks only, are without.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    /// Empty for the predefined networks.
    pub(crate) driver: String,
    pub(crate) scope: String,
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
    pub(crate) internal: bool,
    pub(crate) attachable: bool,
    pub(crate) config_only: bool,
    pub(crate) config_from: String,
    pub(crate) ipam: Ipam,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            driver: String::new(),
            scope: "local".to_owned(),
            ipv4: true,
            ipv6: false,
            internal: false,
            attachable: false,
            config_only: false,
            config_from: String::new(),
            ipam: Ipam { driver: "default".to_owned(), ..Ipam::default() },
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }
}

impl StoredNetwork {
    /// One of the networks that are always there.
    pub(super) fn predefined(name: &str, config: Option<NetworkConfig>) -> Self {
        StoredNetwork {
            name: name.to_owned(),
            created: Utc::now(),
            id: config.as_ref().map_or_else(random_id, |config| config.id),
            config,
            settings: Settings::default(),
        }
    }

    /// Whether it is always there.
    pub(crate) fn is_predefined(&self) -> bool {
        is_predefined(&self.name)
    }

    /// Docker's name of what it is made of.
    pub(crate) fn driver(&self) -> &str {
        match (self.settings.driver.as_str(), self.name.as_str()) {
            ("", "host") => "host",
            ("", "none") => "null",
            ("", _) => "bridge",
            (driver, _) => driver,
        }
    }
}

/// The default bridge as the settings want it; without a subnet if that is still to be chosen. One that was chosen before is
/// kept.
pub(super) fn wanted_bridge(config: &EngineConfig, stored: Option<&NetworkConfig>) -> Option<NetworkConfig> {
    let BridgeSettings::Managed { link, address, range, mtu, inter_container, masquerade, default_host_ip } =
        &config.bridge
    else {
        return None;
    };
    let id = stored.map_or_else(random_id, |bridge| bridge.id);
    let mut bridge = NetworkConfig::bridge(id, link.clone(), ipnet::Ipv4Net::default());
    let kept = stored.and_then(|bridge| bridge.subnet4()).cloned();
    let subnet = match (address, kept) {
        (Some((ip, prefix)), _) => {
            let net = ipnet::Ipv4Net::new(*ip, *prefix).ok()?.trunc();
            Some(Subnet { gateway: Some(IpAddr::V4(*ip)), ..Subnet::new(net) })
        }
        (None, kept) => kept,
    };
    bridge.subnets = subnet.into_iter().collect();
    if let Some(subnet) = bridge.subnets.first_mut() {
        subnet.range = range.and_then(|(ip, prefix)| ipnet::Ipv4Net::new(ip, prefix).ok()).map(ipnet::IpNet::V4);
    }
    bridge.mtu = Some(*mtu);
    if let Some(link) = bridge.as_bridge_mut() {
        link.icc = *inter_container;
        link.masquerade = *masquerade;
        link.host_binding = (!default_host_ip.is_unspecified()).then_some(IpAddr::V4(*default_host_ip));
    }
    Some(bridge)
}

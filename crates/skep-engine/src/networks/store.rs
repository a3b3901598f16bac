//! Networks as they are stored.

use std::collections::BTreeMap;
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use skep_net::{BridgeLink, LinkConfig, NetworkConfig, Subnet};
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

/// The default bridge as the settings want it; without subnets that are still to be chosen. Those that were chosen before are
/// kept.
pub(super) fn wanted_bridge(config: &EngineConfig, stored: Option<&NetworkConfig>) -> Option<NetworkConfig> {
    let BridgeSettings::Managed {
        link,
        address,
        range,
        ipv6,
        address6,
        range6,
        mtu,
        inter_container,
        masquerade,
        default_host_ip,
    } = &config.bridge
    else {
        return None;
    };
    let bridge = BridgeLink {
        icc: *inter_container,
        masquerade: *masquerade,
        host_binding: (!default_host_ip.is_unspecified()).then_some(IpAddr::V4(*default_host_ip)),
        ..BridgeLink::new(link.clone())
    };
    let net = |ip: IpAddr, prefix: u8| IpNet::new(ip, prefix).ok();
    let range = range.and_then(|(ip, prefix)| net(ip.into(), prefix));
    let own = address.and_then(|(ip, prefix)| Some((net(ip.into(), prefix)?.trunc(), ip.into())));
    let v4 = subnet(own, range, stored.and_then(NetworkConfig::subnet4));
    let range6 = range6.and_then(|(ip, prefix)| net(ip.into(), prefix));
    let own6 = address6.and_then(|(ip, prefix)| Some((net(ip.into(), prefix)?.trunc(), ip.into())));
    let v6 = match (own6, range6) {
        _ if !ipv6 => None,
        (None, Some(whole)) => Some(Subnet::new(whole.trunc())),
        (own, range) => subnet(own, range, stored.and_then(NetworkConfig::subnet6)),
    };
    Some(NetworkConfig {
        id: stored.map_or_else(random_id, |network| network.id),
        link: LinkConfig::Bridge(bridge),
        subnets: v4.into_iter().chain(v6).collect(),
        mtu: Some(*mtu),
        internal: false,
    })
}

/// The subnet around the bridge's own address, or the one that it has had so far.
fn subnet(own: Option<(IpNet, IpAddr)>, range: Option<IpNet>, stored: Option<&Subnet>) -> Option<Subnet> {
    match (own, stored) {
        (Some((net, address)), _) => Some(Subnet { gateway: Some(address), range, ..Subnet::new(net) }),
        (None, Some(stored)) => Some(Subnet { range, ..stored.clone() }),
        (None, None) => None,
    }
}

/// Whether the settings want IPv6 in the default bridge.
pub(super) fn wants_ipv6(config: &EngineConfig) -> bool {
    matches!(config.bridge, BridgeSettings::Managed { ipv6: true, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_first_daemons_are_read() {
        let id = "ab".repeat(32);
        let bridge = format!(
            r#"{{"id":"{id}","bridge":"skep0","subnet":"172.17.0.0/16","gateway":"172.17.0.1","ip_range":null,"subnet6":null,
                "mtu":1500,"icc":true,"masquerade":true,"internal":false,"host_binding":null}}"#
        );
        let row = |name: &str, bridge: &str| {
            let text = format!(r#"{{"name":"{name}","created":"2026-01-02T03:04:05Z","id":"{id}","bridge":{bridge}}}"#);
            serde_json::from_str::<StoredNetwork>(&text).unwrap()
        };
        let read = row("bridge", &bridge);
        let config = read.config.clone().unwrap();
        assert_eq!(config.as_bridge().unwrap().name, "skep0");
        assert_eq!(config.subnet4().unwrap().gateway_address().to_string(), "172.17.0.1");
        assert_eq!((read.driver(), read.settings.ipv4, read.settings.scope.as_str()), ("bridge", true, "local"));
        assert_eq!(row("host", "null").driver(), "host");
        let again: StoredNetwork = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(again.config, read.config);
    }
}

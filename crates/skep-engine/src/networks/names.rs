//! What containers are told about names: resolv.conf and the host's address.

use std::net::IpAddr;

use skep_net::resolv::{ResolvFor, ResolvOverrides};

use super::{BRIDGE, Networks};
use crate::config::EngineConfig;
use crate::model::host::HostConfig;
use crate::model::network::NetworkMode;
use crate::{Error, Result};

impl Networks {
    /// The address of the host as containers see it (`host-gateway`).
    pub(crate) fn host_gateway(&self) -> Option<IpAddr> {
        self.bridge_of(BRIDGE).and_then(|network| network.subnet4()).map(|subnet| subnet.gateway_address())
    }

    /// Text of /etc/resolv.conf.
    pub(crate) fn resolv_conf(&self, engine: &EngineConfig, host: &HostConfig) -> Result<String> {
        let pick = |own: &[String], default: &[String]| if own.is_empty() { default.to_vec() } else { own.to_vec() };
        let overrides = ResolvOverrides {
            servers: pick(&host.dns, &engine.dns),
            search: pick(&host.dns_search, &engine.dns_search),
            options: pick(&host.dns_options, &engine.dns_options),
        };
        let target = match host.network_mode {
            NetworkMode::Host => ResolvFor::HostNetwork,
            _ => ResolvFor::Bridge { ipv6: false },
        };
        skep_net::resolv::resolv_conf(target, &overrides).map_err(|e| Error::system("making resolv.conf", e))
    }
}

//! What containers are told about names: the host's address.

use std::net::IpAddr;

use super::{BRIDGE, Networks};

impl Networks {
    /// The address of the host as containers see it (`host-gateway`).
    pub(crate) fn host_gateway(&self) -> Option<IpAddr> {
        self.bridge_of(BRIDGE).and_then(|network| network.subnet4()).map(|subnet| subnet.gateway_address())
    }
}

//! Ports published and taken back while a container runs.

use std::net::IpAddr;

use skep_net::{HostPort, PortMapping, Published};

use super::plug::Plug;
use super::route::gateways;
use super::{Networks, ports, words};
use crate::containers::record::Record;
use crate::engine::Inner;
use crate::{Error, Result};

impl Networks {
    /// Takes ports back and publishes others, on the networks that are the container's ways out: all of it or nothing. Blocking.
    pub(crate) fn change_ports(
        &self,
        engine: &Inner,
        record: &Record,
        added: &[PortMapping],
        removed: &[PortMapping],
        plugs: &mut [Plug],
    ) -> Result<()> {
        let before: Vec<Plug> = plugs.to_vec();
        let changed = self.try_change(engine, record, added, removed, plugs);
        if changed.is_err() {
            self.put_ports_back(&before, plugs)?;
        }
        changed
    }

    fn try_change(
        &self,
        engine: &Inner,
        record: &Record,
        added: &[PortMapping],
        removed: &[PortMapping],
        plugs: &mut [Plug],
    ) -> Result<()> {
        let stack = self.stack()?;
        for plug in plugs.iter_mut() {
            let published = plug.endpoint.published.iter();
            let going: Vec<Published> =
                published.filter(|port| removed.iter().any(|mapping| means(mapping, port))).copied().collect();
            stack.unpublish(&mut plug.endpoint, &going).map_err(Error::Network)?;
        }
        let legs = self.legs(record)?;
        let ways = gateways(legs.iter().map(|leg| &leg.config));
        for (index, leg) in legs.iter().enumerate() {
            let (v4, v6, split) = ways.of(index);
            let own = ports::of_families(added, v4, v6, split);
            let Some(plug) = plugs.iter_mut().find(|plug| plug.network == leg.network.name) else { continue };
            stack.publish(&mut plug.endpoint, &own).map_err(|error| words::plug(engine, record, error))?;
        }
        Ok(())
    }

    /// Publishes what was published `before`, and nothing else. Blocking.
    pub(crate) fn put_ports_back(&self, before: &[Plug], now: &mut [Plug]) -> Result<()> {
        let stack = self.stack()?;
        for plug in now.iter_mut() {
            let old = before.iter().find(|old| old.network == plug.network);
            let old = old.map(|old| old.endpoint.published.clone()).unwrap_or_default();
            let published = plug.endpoint.published.clone();
            let new: Vec<Published> = published.iter().filter(|port| !old.contains(port)).copied().collect();
            stack.unpublish(&mut plug.endpoint, &new).map_err(Error::Network)?;
            let lost: Vec<Published> = old.into_iter().filter(|port| !published.contains(port)).collect();
            stack.publish(&mut plug.endpoint, &ports::again(&lost)).map_err(Error::Network)?;
        }
        Ok(())
    }
}

/// Whether somebody who names a port like that means this one.
fn means(mapping: &PortMapping, port: &Published) -> bool {
    let address = mapping.host_ip.is_none_or(|ip: IpAddr| ip == port.host_ip);
    let number = match mapping.host_port {
        HostPort::Ephemeral => true,
        HostPort::Exact(number) => number == port.host_port,
        HostPort::Range(first, last) => (first..=last).contains(&port.host_port),
    };
    address && number && mapping.container_port == port.container_port && mapping.protocol == port.protocol
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_net::Protocol;

    #[test]
    fn what_is_not_said_does_not_matter() {
        let port = Published {
            host_ip: "0.0.0.0".parse().unwrap(),
            host_port: 8080,
            container_ip: "10.0.0.2".parse().unwrap(),
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        let mapping = |host_ip: Option<&str>, host_port: HostPort| PortMapping {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        assert!(means(&mapping(None, HostPort::Ephemeral), &port));
        assert!(means(&mapping(Some("0.0.0.0"), HostPort::Exact(8080)), &port));
        assert!(means(&mapping(None, HostPort::Range(8000, 8100)), &port));
        assert!(!means(&mapping(Some("127.0.0.1"), HostPort::Ephemeral), &port));
        assert!(!means(&mapping(None, HostPort::Exact(8081)), &port));
    }
}

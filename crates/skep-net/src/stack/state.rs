//! What is in force: networks, ports, the table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use skep_types::NetworkId;

use super::members::Network;
use crate::config::{Endpoint, EndpointConfig, HostFirewall, PortMapping, Published};
use crate::error::NetError;
use crate::filter::{Change, Element, Filter, Others, arrange};
use crate::netlink::Socket;
use crate::netns::Netns;
use crate::network::{GatewayMode, LinkConfig, NetworkConfig};
use crate::ports::{Ports, Target};
use crate::{bridge, conntrack, endpoint, parent, rate, sysctl};

#[derive(Debug)]
pub(super) struct State {
    pub(super) route: Socket,
    pub(super) filter: Filter,
    /// For connection tracking, which shares netlink's netfilter protocol but not the filter's batches.
    flows: Socket,
    others: Others,
    host_firewall: HostFirewall,
    pub(super) networks: BTreeMap<NetworkId, Network>,
    pub(super) ports: Ports,
    /// The alias of links that were made here, other than the ends of pairs.
    pub(super) mark: String,
    /// All ports in force, to put a lost table back.
    pub(super) published: BTreeSet<PublishedKey>,
}

/// A published port with the network that it leads to.
type PublishedKey = (NetworkId, Published);

impl State {
    pub(super) fn new(
        route: Socket,
        filter: Filter,
        flows: Socket,
        others: Others,
        host_firewall: HostFirewall,
    ) -> Self {
        let (networks, ports, published) = (BTreeMap::new(), Ports::default(), BTreeSet::new());
        let mark = format!("made by skep for {}", filter.identity().0);
        State { route, filter, flows, others, host_firewall, networks, ports, mark, published }
    }

    /// Makes the network's link and its pools; the table is not touched.
    pub(super) fn add_network(&mut self, config: NetworkConfig) -> Result<(), NetError> {
        if let Some(subnet) = config.subnet6() {
            if !sysctl::has_ipv6() {
                return Err(NetError::NoIpv6(subnet.subnet.to_string()));
            }
            if config.as_bridge().is_some() {
                sysctl::forward_ipv6()?;
            }
        }
        let index = match &config.link {
            LinkConfig::Bridge(bridge) => bridge::ensure(&mut self.route, &config, bridge, &self.mark)?,
            LinkConfig::Macvlan { .. } | LinkConfig::Ipvlan { .. } => {
                parent::ensure(&mut self.route, &config, &self.mark)?
            }
        };
        self.networks.insert(config.id, Network::new(config, index));
        Ok(())
    }

    /// Removes a network's link from the host, unless other networks use it or it was there before.
    pub(super) fn delete_link(&mut self, config: &NetworkConfig) -> Result<(), NetError> {
        if let Some(link) = config.as_bridge() {
            return bridge::delete(&mut self.route, &link.name);
        }
        let Some(parent) = config.link.parent(&config.id) else { return Ok(()) };
        let mut others = self.networks.values().map(|network| &network.config).filter(|other| other.id != config.id);
        if others.any(|other| other.link.parent(&other.id).as_ref() == Some(&parent)) {
            return Ok(());
        }
        parent::release(&mut self.route, &parent, &self.mark)
    }

    pub(super) fn draw_addresses(&mut self, id: &NetworkId, wish: &EndpointConfig) -> Result<Endpoint, NetError> {
        self.networks.get_mut(id).ok_or(NetError::NoSuchNetwork(*id))?.draw(wish)
    }

    pub(super) fn release_addresses(&mut self, endpoint: &Endpoint) {
        if let Some(network) = self.networks.get_mut(&endpoint.network) {
            network.release(endpoint);
        }
    }

    /// Makes the link of an endpoint. Returns its network's configuration.
    pub(super) fn add_link(
        &mut self,
        netns: &Netns,
        endpoint: &mut Endpoint,
        wish: &EndpointConfig,
    ) -> Result<NetworkConfig, NetError> {
        let network = self.networks.get(&endpoint.network).ok_or(NetError::NoSuchNetwork(endpoint.network))?;
        endpoint::add_link(&mut self.route, (&network.config, network.index), netns, endpoint, wish)?;
        if !wish.rate.is_unlimited() {
            rate::apply(&mut self.route, endpoint, wish.rate, &self.mark)?;
        }
        Ok(network.config.clone())
    }

    pub(super) fn publish(
        &mut self,
        endpoint: &mut Endpoint,
        ports: &[PortMapping],
    ) -> Result<Vec<Published>, NetError> {
        let network = self.networks.get(&endpoint.network).ok_or(NetError::NoSuchNetwork(endpoint.network))?;
        // As with Docker, ports of a container whose network has no way in, or one past this host, are ignored.
        if ports.is_empty() || network.config.internal || network.config.as_bridge().is_none() {
            return Ok(Vec::new());
        }
        let target = Target {
            container: endpoint.container,
            address: endpoint.address.map(|(address, _)| address),
            address6: endpoint.address6.map(|(address, _)| address),
            default_host_ip: network.config.as_bridge().and_then(|bridge| bridge.host_binding),
            routed: network.config.as_bridge().is_some_and(|bridge| bridge.gateway_mode_v4 == GatewayMode::Routed),
            routed6: network.config.as_bridge().is_some_and(|bridge| bridge.gateway_mode_v6 == GatewayMode::Routed),
        };
        let published = self.ports.reserve(&target, ports)?;
        let elements = elements(&network.config, &published);
        let done = self.allow_loopback(endpoint.network, &published).and_then(|()| self.add_elements(&elements));
        if let Err(e) = done {
            self.ports.release(&published);
            return Err(e);
        }
        self.published.extend(published.iter().map(|port| (endpoint.network, *port)));
        conntrack::forget_udp(&mut self.flows, &published);
        endpoint.published.extend(&published);
        Ok(published)
    }

    pub(super) fn unpublish(&mut self, network: NetworkId, ports: &[Published]) -> Result<(), NetError> {
        let own: Vec<_> = ports.iter().filter(|port| self.published.remove(&(network, **port))).copied().collect();
        let mut gone: Vec<_> = own.iter().filter_map(Element::of_port).collect();
        if let Some(found) = self.networks.get(&network) {
            let direct = own.iter().filter_map(|port| Some((port, Element::of_direct(&found.config, port)?)));
            gone.extend(direct.filter(|(port, _)| !self.is_served(network, port)).map(|(_, element)| element));
        }
        arrange(&mut gone);
        let removed = self.remove_elements(&gone);
        conntrack::forget_udp(&mut self.flows, &own);
        self.ports.release(&own);
        removed
    }

    /// What is published for a container's addresses.
    pub(super) fn published_at(&self, network: NetworkId, addresses: &[IpAddr]) -> Vec<Published> {
        let here = |(id, port): &&PublishedKey| *id == network && addresses.contains(&port.container_ip);
        self.published.iter().filter(here).map(|(_, port)| *port).collect()
    }

    /// The container's port is still published, some other way.
    fn is_served(&self, network: NetworkId, gone: &Published) -> bool {
        let same = |port: &Published| {
            (port.container_ip, port.container_port, port.protocol)
                == (gone.container_ip, gone.container_port, gone.protocol)
        };
        self.published.iter().any(|(id, port)| *id == network && same(port))
    }

    /// Lets the host's loopback addresses reach the bridge, once a port is published that they can use.
    pub(super) fn allow_loopback(&mut self, network: NetworkId, ports: &[Published]) -> Result<(), NetError> {
        let usable = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if ip.is_unspecified() || ip.is_loopback());
        let Some(network) = self.networks.get_mut(&network) else { return Ok(()) };
        if !network.loopback && ports.iter().any(|port| usable(port.host_ip)) {
            if let Some(bridge) = network.config.as_bridge() {
                sysctl::set(&format!("ipv4/conf/{}/route_localnet", bridge.name), "1")?;
            }
            network.loopback = true;
        }
        let usable = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unspecified() || ip.is_loopback());
        if !network.loopback6 && ports.iter().any(|port| usable(port.host_ip) && port.is_translated()) {
            if let Some(bridge) = network.config.as_bridge().filter(|_| !bridge::filters_ipv6()) {
                bridge::accept_loopback6(&mut self.route, &bridge.name, network.index)?;
            }
            network.loopback6 = true;
        }
        Ok(())
    }

    pub(super) fn add_elements(&mut self, elements: &[Element]) -> Result<(), NetError> {
        match self.filter.add(elements)? {
            Some(()) => Ok(()),
            None => {
                tracing::warn!("the firewall table was gone; putting it back");
                self.rebuild()?;
                self.filter.add(elements).map(drop)
            }
        }
    }

    /// The elements are gone from memory already, so a rebuilt table does not have them.
    pub(super) fn remove_elements(&mut self, elements: &[Element]) -> Result<(), NetError> {
        match self.filter.remove(elements)? {
            Some(()) => Ok(()),
            None => self.rebuild(),
        }
    }

    /// Answers to what the monitor has heard.
    pub(super) fn others_changed(&mut self, change: Change) {
        if change == Change::Ours {
            match self.rebuild() {
                Ok(()) => tracing::warn!("the firewall table was changed by another program; it is put back"),
                Err(error) => tracing::error!(%error, "putting the firewall table back"),
            }
        }
        self.bridges_changed();
    }

    /// Sees to it that the host's firewall does what the settings say.
    pub(super) fn settle_with_others(&mut self) -> Result<(), NetError> {
        let bridges: Vec<_> = match self.host_firewall {
            HostFirewall::Respect => Vec::new(),
            HostFirewall::Bypass => {
                let open = self.networks.values().filter(|network| !network.config.internal);
                open.filter_map(|network| network.config.as_bridge()).map(|bridge| bridge.name.clone()).collect()
            }
        };
        self.filter.bypass(&bridges)
    }

    /// As [`State::settle_with_others`], when a network has come or gone.
    pub(super) fn bridges_changed(&mut self) {
        if self.host_firewall == HostFirewall::Bypass
            && let Err(error) = self.settle_with_others()
        {
            tracing::warn!(%error, "the host's firewall can't be bypassed");
        }
    }

    pub(super) fn rebuild(&mut self) -> Result<(), NetError> {
        let networks = self.networks.values().flat_map(|network| Element::of_network(&network.config));
        let mut all: Vec<_> = networks.collect();
        for (id, port) in &self.published {
            let network = self.networks.get(id);
            all.extend(network.map(|network| elements(&network.config, &[*port])).unwrap_or_default());
        }
        arrange(&mut all);
        self.filter.replace(self.others, &all)
    }
}

/// What ports are in the table.
fn elements(network: &NetworkConfig, ports: &[Published]) -> Vec<Element> {
    let mut elements: Vec<_> = ports.iter().filter_map(Element::of_port).collect();
    elements.extend(ports.iter().filter_map(|port| Element::of_direct(network, port)));
    arrange(&mut elements);
    elements
}

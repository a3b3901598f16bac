//! The networks of one engine.

mod members;
mod restore;
mod state;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;
use skep_types::NetworkId;

use crate::bridge::{self, failed};
use crate::config::{
    Endpoint, EndpointConfig, Families, ForwardPolicy, LinkStats, PortMapping, Published, Rate, Restored, Saved,
    StackConfig,
};
use crate::error::NetError;
use crate::explain::{self, Explanation, Obstacle, Subject};
use crate::filter::{Element, Filter, Others};
use crate::monitor::Monitor;
use crate::netlink::{Refused, Socket};
use crate::netns::Netns;
use crate::network::NetworkConfig;
use crate::pools::{self, AddressPool};
use crate::reaper::Reaper;
use crate::{endpoint, rate, sysctl};
use state::State;

/// The networks of one engine. All methods may be called from several threads; the kernel changes links one at a time
/// anyway, so one lock is held around each operation.
#[derive(Debug)]
pub struct NetworkStack {
    state: Arc<Mutex<State>>,
    /// Puts the table back when others remove it.
    monitor: Monitor,
    /// Deletes links: the kernel takes milliseconds for that, during which others may attach.
    reaper: Reaper,
}

impl NetworkStack {
    /// Opens the stack in the calling thread's network namespace and puts `saved` in force: bridges are made or found,
    /// links of endpoints that nobody knows are removed, the whole table is replaced in one step, ports are reserved
    /// again.
    ///
    /// Turns IPv4 forwarding on; it is never turned off again, since others may have come to rely on it.
    pub fn open(config: StackConfig, saved: Saved) -> Result<(Self, Restored), NetError> {
        let route = Socket::route().map_err(|source| NetError::Socket { operation: "open", source })?;
        let flows =
            Socket::netfilter().map_err(|source| NetError::Socket { operation: "open for conntrack", source })?;
        let reaper = Reaper::new(Socket::route().map_err(|source| NetError::Socket { operation: "open", source })?);
        let mut filter = Filter::open(&config.table)?;
        let dropped_before = filter.drops_others();
        let enabled_here = sysctl::set("ipv4/ip_forward", "1")?;
        let others = match config.forward {
            ForwardPolicy::DropIfEnabledHere if enabled_here || dropped_before => Others::Drop,
            ForwardPolicy::DropIfEnabledHere | ForwardPolicy::Leave => Others::Accept,
        };
        let mut state = State::new(route, filter, flows, others, config.host_firewall);
        let restored = state.restore(saved)?;
        let (table, port) = state.filter.identity();
        let state = Arc::new(Mutex::new(state));
        let watched = Arc::clone(&state);
        // Listening begins before the table is there, so that no change of it is missed.
        let monitor = Monitor::start(table, port, move |change| watched.lock().others_changed(change))?;
        let mut opened = state.lock();
        opened.rebuild()?;
        // Also where nothing is to be bypassed: an earlier engine may have had other settings.
        if let Err(error) = opened.settle_with_others() {
            tracing::warn!(%error, "rules in the host's firewall are left as they are");
        }
        drop(opened);
        Ok((NetworkStack { state, monitor, reaper }, restored))
    }

    /// A subnet for a new network: the first one of `pools` that overlaps no route of the host, none of its name servers
    /// and no network.
    pub fn free_subnet(&self, pools: &[AddressPool]) -> Result<IpNet, NetError> {
        self.free(pools, true)
    }

    /// As [`NetworkStack::free_subnet`], of IPv6.
    pub fn free_subnet6(&self, pools: &[AddressPool]) -> Result<IpNet, NetError> {
        self.free(pools, false)
    }

    fn free(&self, pools: &[AddressPool], ipv4: bool) -> Result<IpNet, NetError> {
        let mut state = self.state.lock();
        let mut used = state.route.route_destinations().map_err(|e| failed("list", "routes", e))?;
        used.extend(pools::name_servers());
        used.extend(state.networks.values().flat_map(|network| &network.config.subnets).map(|s| s.subnet));
        pools::first_free(pools, ipv4, used)
    }

    /// Makes a network.
    pub fn create_network(&self, config: NetworkConfig) -> Result<(), NetError> {
        config.check()?;
        let mut state = self.state.lock();
        for other in state.networks.values() {
            other.config.check_beside(&config)?;
        }
        let elements = Element::of_network(&config);
        let id = config.id;
        state.add_network(config)?;
        state.add_elements(&elements).inspect_err(|_| {
            let _ = state.networks.remove(&id).map(|network| state.delete_link(&network.config));
        })?;
        state.bridges_changed();
        Ok(())
    }

    /// Removes a network without endpoints, and its bridge.
    pub fn remove_network(&self, id: &NetworkId) -> Result<(), NetError> {
        let mut state = self.state.lock();
        let network = state.networks.get(id).ok_or(NetError::NoSuchNetwork(*id))?;
        if !network.endpoints.is_empty() {
            return Err(NetError::NetworkBusy { network: *id, endpoints: network.endpoints.len() });
        }
        let config = network.config.clone();
        state.delete_link(&config)?;
        state.networks.remove(id);
        state.bridges_changed();
        state.remove_elements(&Element::of_network(&config))
    }

    /// Plugs a namespace into a network and publishes the ports asked for; on failure nothing is left.
    pub fn attach(&self, network: &NetworkId, netns: &Netns, wish: &EndpointConfig) -> Result<Endpoint, NetError> {
        let mut state = self.state.lock();
        let mut endpoint = state.draw_addresses(network, wish)?;
        let linked = state.add_link(netns, &mut endpoint, wish);
        drop(state);
        // Others may attach meanwhile.
        let done = linked
            .and_then(|config| endpoint::set_up_inside(netns, &config, &endpoint, wish))
            .and_then(|()| self.state.lock().publish(&mut endpoint, &wish.ports));
        done.inspect_err(|_| {
            if let Err(error) = self.detach(&endpoint) {
                tracing::warn!(%error, container = %endpoint.container, "undoing a failed attach");
            }
        })?;
        Ok(endpoint)
    }

    /// As [`NetworkStack::detach`], for a container that goes on: interfaces without an end on the host are removed from
    /// inside its namespace, whatever the container calls them by now.
    pub fn detach_from(&self, netns: &Netns, endpoint: &Endpoint) -> Result<(), NetError> {
        let network = self.state.lock().networks.get(&endpoint.network).map(|n| (n.config.link.child(), n.index));
        let inside = match network {
            Some((Some(child), parent)) => endpoint::unplug_child(netns, (child, parent), &endpoint.ifname),
            _ => Ok(()),
        };
        self.detach(endpoint).and(inside)
    }

    /// Takes an endpoint away: ports at once, then link and address. Parts that are gone already are no error. An interface
    /// without an end on the host goes with its container's namespace.
    ///
    /// The kernel takes about 20 ms to delete a link, or many at once; others can attach meanwhile, but the caller waits.
    pub fn detach(&self, endpoint: &Endpoint) -> Result<(), NetError> {
        let ports = self.state.lock().unpublish(endpoint.network, &endpoint.published);
        let helper = endpoint.rate.outbound.and(endpoint.host_link.as_deref()).map(rate::helper_of);
        let link = self.reaper.delete(endpoint.host_link.clone().into_iter().chain(helper));
        self.state.lock().release_addresses(endpoint);
        ports.and(link)
    }

    /// Publishes more ports of an endpoint and adds them to [`Endpoint::published`]: all or none.
    pub fn publish(&self, endpoint: &mut Endpoint, ports: &[PortMapping]) -> Result<Vec<Published>, NetError> {
        self.state.lock().publish(endpoint, ports)
    }

    /// Takes published ports of an endpoint back; those that it does not have are left alone.
    pub fn unpublish(&self, endpoint: &mut Endpoint, ports: &[Published]) -> Result<(), NetError> {
        let own: Vec<_> = ports.iter().filter(|port| endpoint.published.contains(port)).copied().collect();
        endpoint.published.retain(|port| !own.contains(port));
        self.state.lock().unpublish(endpoint.network, &own)
    }

    /// Changes how much may flow through an endpoint.
    pub fn set_rate(&self, endpoint: &mut Endpoint, rate: Rate) -> Result<(), NetError> {
        let mut state = self.state.lock();
        let mark = state.mark.clone();
        // Also what fails half-way may have a helping link, which the endpoint has to know of.
        endpoint.rate.outbound = endpoint.rate.outbound.or(rate.outbound);
        rate::apply(&mut state.route, endpoint, rate, &mark)?;
        endpoint.rate = rate;
        Ok(())
    }

    /// Leads the container's default routes through this endpoint, in place of where they led before; those of the
    /// families that are not named stay.
    pub fn set_default_routes(&self, netns: &Netns, endpoint: &Endpoint, families: Families) -> Result<(), NetError> {
        let state = self.state.lock();
        let network = state.networks.get(&endpoint.network).ok_or(NetError::NoSuchNetwork(endpoint.network))?;
        endpoint::set_default_routes(netns, &network.config, endpoint, families)
    }

    /// The counters of an endpoint.
    pub fn stats(&self, endpoint: &Endpoint) -> Result<LinkStats, NetError> {
        let name = endpoint.host_link.as_deref().unwrap_or_default();
        let link = self.state.lock().route.link(name).map_err(|e| failed("read", name, e))?;
        let host = link.ok_or_else(|| failed("read", name, rustix::io::Errno::NODEV.into()))?.stats;
        // What the host's end receives is what the container sent.
        Ok(LinkStats {
            rx_bytes: host.tx_bytes,
            rx_packets: host.tx_packets,
            rx_errors: host.tx_errors,
            rx_dropped: host.tx_dropped,
            tx_bytes: host.rx_bytes,
            tx_packets: host.rx_packets,
            tx_errors: host.rx_errors,
            tx_dropped: host.rx_dropped,
        })
    }

    /// Explains who can reach a container by its `addresses` in a network, and which rule decides. Only reads; called in
    /// the namespace of the stack.
    pub fn explain(&self, network: NetworkId, addresses: &[IpAddr]) -> Result<Explanation, NetError> {
        let published = self.state.lock().published_at(network, addresses);
        let subject = Subject { network, addresses: addresses.to_vec(), published };
        self.with_own(|own, route, filter| explain::explain(route, filter, own, &subject))
    }

    /// What of the host's firewall is in the way of containers: rules and policies of others that drop what leaves the
    /// engine's networks, or what is led there.
    pub fn obstacles(&self) -> Result<Vec<Obstacle>, NetError> {
        self.with_own(|own, route, filter| explain::obstacles(route, filter, own))
    }

    /// Nobody has to wait for what only reads: it uses sockets of its own.
    fn with_own<T>(
        &self,
        work: impl FnOnce(&explain::Own<'_>, &mut Socket, &mut Socket) -> Result<T, Refused>,
    ) -> Result<T, NetError> {
        let failed = |source| NetError::Socket { operation: "open", source };
        let (mut route, mut filter) = (Socket::route().map_err(failed)?, Socket::netfilter().map_err(failed)?);
        let (table, networks) = {
            let state = self.state.lock();
            let networks: Vec<_> = state.networks.values().map(|network| network.config.clone()).collect();
            (state.filter.identity().0, networks)
        };
        let networks = networks.iter().map(|network| (network.id, network)).collect();
        let own = explain::Own { table: &table, networks };
        work(&own, &mut route, &mut filter).map_err(|refused| NetError::Filter {
            operation: "read",
            table,
            source: refused.into(),
        })
    }

    /// Removes every network of the engine, with its links, and the table. Goes on after an error and returns the first.
    pub fn destroy(self) -> Result<(), NetError> {
        drop(self.monitor);
        let mut state = self.state.lock();
        let mut first = Ok(());
        let bridges: BTreeSet<u32> =
            state.networks.values().filter(|n| n.config.as_bridge().is_some()).map(|n| n.index).collect();
        let links = state.route.links().map_err(|e| failed("list", "links", e)).unwrap_or_else(|e| {
            first = Err(e);
            Vec::new()
        });
        let ports =
            links.iter().filter(|l| l.master.is_some_and(|m| bridges.contains(&m)) && bridge::is_host_link(&l.name));
        for port in ports {
            first = first.and(bridge::delete(&mut state.route, &port.name));
        }
        while let Some((_, network)) = state.networks.pop_first() {
            first = first.and(state.delete_link(&network.config));
        }
        first.and(state.filter.bypass(&[])).and(state.filter.destroy())
    }
}

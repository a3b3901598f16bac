//! The networks of one engine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use parking_lot::Mutex;
use skep_types::{ContainerId, NetworkId};

use crate::bridge::{self, failed};
use crate::config::{
    BridgeConfig, Endpoint, EndpointConfig, ForwardPolicy, LinkStats, MacAddr, PortMapping, Published, Restored, Saved,
    StackConfig,
};
use crate::filter::{Change, Element, Filter, Others};
use crate::ipam::Pool;
use crate::monitor::Monitor;
use crate::netlink::Socket;
use crate::netns::Netns;
use crate::ports::{Ports, Target};
use crate::{NetError, conntrack, endpoint, subnet, sysctl};

/// The networks of one engine. All methods may be called from several threads; the kernel changes links one at a time
/// anyway, so one lock is held around each operation.
#[derive(Debug)]
pub struct NetworkStack {
    state: Arc<Mutex<State>>,
    /// Puts the table back when others remove it.
    monitor: Monitor,
    /// Deletes links: the kernel takes milliseconds for that, during which others may attach.
    reaper: Mutex<Socket>,
}

#[derive(Debug)]
struct State {
    route: Socket,
    filter: Filter,
    /// For connection tracking, which shares netlink's netfilter protocol but not the filter's batches.
    flows: Socket,
    others: Others,
    networks: BTreeMap<NetworkId, Network>,
    ports: Ports,
    /// All ports in force, to put a lost table back.
    published: BTreeSet<PublishedKey>,
}

/// A published port with the network that it leads to.
type PublishedKey = (NetworkId, Published);

#[derive(Debug)]
struct Network {
    config: BridgeConfig,
    index: u32,
    pool: Pool,
    pool6: Option<Pool>,
    endpoints: BTreeSet<(ContainerId, String)>,
    /// Loopback addresses may leave through the bridge.
    loopback: bool,
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
        let reaper = Socket::route().map_err(|source| NetError::Socket { operation: "open", source })?;
        let mut filter = Filter::open(&config.table)?;
        let dropped_before = filter.drops_others();
        let enabled_here = sysctl::set("ipv4/ip_forward", "1")?;
        let others = match config.forward {
            ForwardPolicy::DropIfEnabledHere if enabled_here || dropped_before => Others::Drop,
            ForwardPolicy::DropIfEnabledHere | ForwardPolicy::Leave => Others::Accept,
        };
        let mut state = State {
            route,
            filter,
            flows,
            others,
            networks: BTreeMap::new(),
            ports: Ports::default(),
            published: BTreeSet::new(),
        };
        let restored = state.restore(saved)?;
        let (table, port) = state.filter.identity();
        let state = Arc::new(Mutex::new(state));
        let watched = Arc::clone(&state);
        // Listening begins before the table is there, so that no change of it is missed.
        let monitor = Monitor::start(table, port, move |change| watched.lock().others_changed(change))?;
        state.lock().rebuild()?;
        Ok((NetworkStack { state, monitor, reaper: Mutex::new(reaper) }, restored))
    }

    /// A subnet for a new network: the first of Docker's pools that overlaps no route of the host and no network.
    pub fn free_subnet(&self) -> Result<Ipv4Net, NetError> {
        let mut state = self.state.lock();
        let mut used = state.route.route_destinations().map_err(|e| failed("list", "routes", e))?;
        used.extend(state.networks.values().map(|network| network.config.subnet));
        subnet::first_free(&used).ok_or(NetError::SubnetsExhausted)
    }

    /// Makes a bridge network.
    pub fn create_network(&self, config: BridgeConfig) -> Result<(), NetError> {
        bridge::check(&config)?;
        let mut state = self.state.lock();
        for other in state.networks.values() {
            if other.config.id == config.id || other.config.bridge == config.bridge {
                return Err(NetError::NetworkExists(config.bridge));
            }
            if subnet::overlap(other.config.subnet, config.subnet) {
                let (subnet, with) = (config.subnet.to_string(), other.config.subnet.to_string());
                return Err(NetError::SubnetOverlap { subnet, with });
            }
        }
        let elements = Element::of_network(&config);
        let (id, name) = (config.id, config.bridge.clone());
        state.add_network(config)?;
        state.add_elements(&elements).inspect_err(|_| {
            state.networks.remove(&id);
            let _ = bridge::delete(&mut state.route, &name);
        })
    }

    /// Removes a network without endpoints, and its bridge.
    pub fn remove_network(&self, id: &NetworkId) -> Result<(), NetError> {
        let mut state = self.state.lock();
        let network = state.networks.get(id).ok_or(NetError::NoSuchNetwork(*id))?;
        if !network.endpoints.is_empty() {
            return Err(NetError::NetworkBusy { network: *id, endpoints: network.endpoints.len() });
        }
        let config = network.config.clone();
        bridge::delete(&mut state.route, &config.bridge)?;
        state.networks.remove(id);
        state.remove_elements(&Element::of_network(&config))
    }

    /// Plugs a namespace into a network and publishes the ports asked for; on failure nothing is left.
    pub fn attach(&self, network: &NetworkId, netns: &Netns, wish: &EndpointConfig) -> Result<Endpoint, NetError> {
        let mut state = self.state.lock();
        let mut endpoint = state.draw_addresses(network, wish)?;
        let done = state.plug(netns, &mut endpoint, &wish.ports);
        drop(state);
        done.inspect_err(|_| {
            if let Err(error) = self.detach(&endpoint) {
                tracing::warn!(%error, container = %endpoint.container, "undoing a failed attach");
            }
        })?;
        Ok(endpoint)
    }

    /// Takes an endpoint away: ports at once, then link and address. Parts that are gone already are no error.
    ///
    /// The kernel takes about 20 ms to delete a link; others can attach meanwhile, but the caller waits.
    pub fn detach(&self, endpoint: &Endpoint) -> Result<(), NetError> {
        let ports = self.state.lock().unpublish(endpoint.network, &endpoint.published);
        let link = bridge::delete(&mut self.reaper.lock(), &endpoint.host_link);
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

    /// The counters of an endpoint.
    pub fn stats(&self, endpoint: &Endpoint) -> Result<LinkStats, NetError> {
        let name = endpoint.host_link.as_str();
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

    /// Removes every network of the engine, with its links, and the table. Goes on after an error and returns the first.
    pub fn destroy(self) -> Result<(), NetError> {
        drop(self.monitor);
        let mut state = self.state.lock();
        let mut first = Ok(());
        let bridges: BTreeMap<u32, String> =
            state.networks.values().map(|network| (network.index, network.config.bridge.clone())).collect();
        let links = state.route.links().map_err(|e| failed("list", "links", e)).unwrap_or_else(|e| {
            first = Err(e);
            Vec::new()
        });
        let ports = links
            .iter()
            .filter(|l| l.master.is_some_and(|m| bridges.contains_key(&m)) && bridge::is_host_link(&l.name));
        for name in ports.map(|link| &link.name).chain(bridges.values()) {
            first = first.and(bridge::delete(&mut state.route, name));
        }
        first.and(state.filter.destroy())
    }
}

impl State {
    fn restore(&mut self, saved: Saved) -> Result<Restored, NetError> {
        let mut restored = Restored::default();
        for config in saved.networks {
            let id = config.id;
            if let Err(error) = bridge::check(&config).and_then(|()| self.add_network(config)) {
                restored.failed.push((id, error));
            }
        }
        let links = self.route.links().map_err(|e| failed("list", "links", e))?;
        let bridges: BTreeMap<u32, NetworkId> = self.networks.values().map(|n| (n.index, n.config.id)).collect();
        let mut known = BTreeSet::new();
        for endpoint in saved.endpoints {
            known.insert(endpoint.host_link.clone());
            let link = links.iter().find(|link| link.name == endpoint.host_link && link.kind == "veth");
            match (link, self.networks.get_mut(&endpoint.network)) {
                (Some(link), Some(network)) => {
                    if link.master != Some(network.index) {
                        let mut batch = crate::netlink::Batch::new();
                        crate::netlink::route::set_master(&mut batch, link.index, network.index);
                        self.route.run(&batch).map_err(|e| failed("plug", &endpoint.host_link, e))?;
                    }
                    self.restore_endpoint(&endpoint, &mut restored);
                }
                _ => restored.lost.push(endpoint),
            }
        }
        // What an engine that was killed had plugged in but not yet stored.
        let ours = links
            .iter()
            .filter(|l| l.master.is_some_and(|m| bridges.contains_key(&m)) && bridge::is_host_link(&l.name));
        for link in ours.filter(|link| !known.contains(&link.name)) {
            bridge::delete(&mut self.route, &link.name)?;
        }
        Ok(restored)
    }

    fn restore_endpoint(&mut self, endpoint: &Endpoint, restored: &mut Restored) {
        if let Some(network) = self.networks.get_mut(&endpoint.network) {
            // Taken by what was stored; twice the same would be the same endpoint.
            let _ = network.pool.allocate(Some(endpoint.address.into()));
            if let (Some(pool), Some((address, _))) = (&mut network.pool6, endpoint.address6) {
                let _ = pool.allocate(Some(address.into()));
            }
            network.endpoints.insert((endpoint.container, endpoint.ifname.clone()));
        }
        for port in &endpoint.published {
            if let Some(holder) = self.ports.restore(endpoint.container, port) {
                restored.contested.push((endpoint.container, *port, holder));
            }
            self.published.insert((endpoint.network, *port));
        }
        if let Err(error) = self.allow_loopback(endpoint.network, &endpoint.published) {
            tracing::warn!(%error, "ports on loopback stay closed");
        }
    }

    /// Makes the bridge and the pools; the table is not touched.
    fn add_network(&mut self, config: BridgeConfig) -> Result<(), NetError> {
        if config.subnet6.is_some() {
            sysctl::set_if_there("ipv6/conf/all/forwarding", "1")?;
        }
        let index = bridge::ensure(&mut self.route, &config)?;
        let pool = Pool::new(config.subnet.into(), config.ip_range.map(IpNet::V4), config.gateway_address().into());
        let pool6 =
            config.subnet6.zip(config.gateway6_address()).map(|(net, gw)| Pool::new(net.into(), None, gw.into()));
        let network = Network { index, pool, pool6, endpoints: BTreeSet::new(), loopback: false, config };
        self.networks.insert(network.config.id, network);
        Ok(())
    }

    fn draw_addresses(&mut self, id: &NetworkId, wish: &EndpointConfig) -> Result<Endpoint, NetError> {
        let network = self.networks.get_mut(id).ok_or(NetError::NoSuchNetwork(*id))?;
        let key = (wish.container, wish.ifname.clone());
        if network.endpoints.contains(&key) {
            return Err(NetError::NetworkExists(format!("endpoint of container {} in network {id}", wish.container)));
        }
        let address = network.pool.allocate(wish.address.map(IpAddr::V4))?;
        let address6 = match &mut network.pool6 {
            Some(pool) => {
                Some(pool.allocate(wish.address6.map(IpAddr::V6)).inspect_err(|_| network.pool.release(address))?)
            }
            None => None,
        };
        network.endpoints.insert(key);
        let config = &network.config;
        let address = ipv4(address);
        let routed = wish.default_route && !config.internal;
        Ok(Endpoint {
            network: *id,
            container: wish.container,
            ifname: wish.ifname.clone(),
            host_link: bridge::host_link(id, &wish.container),
            mac: wish.mac.unwrap_or_else(|| MacAddr::for_ip(address)),
            address,
            prefix: config.subnet.prefix_len(),
            gateway: routed.then(|| config.gateway_address()),
            address6: address6.map(ipv6).zip(config.subnet6.map(|net| net.prefix_len())),
            gateway6: config.gateway6_address().filter(|_| routed),
            published: Vec::new(),
        })
    }

    fn plug(&mut self, netns: &Netns, endpoint: &mut Endpoint, ports: &[PortMapping]) -> Result<(), NetError> {
        let network = self.networks.get(&endpoint.network).ok_or(NetError::NoSuchNetwork(endpoint.network))?;
        endpoint::plug(&mut self.route, &network.config, network.index, netns, endpoint)?;
        self.publish(endpoint, ports).map(drop)
    }

    fn release_addresses(&mut self, endpoint: &Endpoint) {
        if let Some(network) = self.networks.get_mut(&endpoint.network)
            && network.endpoints.remove(&(endpoint.container, endpoint.ifname.clone()))
        {
            network.pool.release(endpoint.address.into());
            if let (Some(pool), Some((address, _))) = (&mut network.pool6, endpoint.address6) {
                pool.release(address.into());
            }
        }
    }

    fn publish(&mut self, endpoint: &mut Endpoint, ports: &[PortMapping]) -> Result<Vec<Published>, NetError> {
        let network = self.networks.get(&endpoint.network).ok_or(NetError::NoSuchNetwork(endpoint.network))?;
        // As with Docker, ports of a container that only has internal networks are ignored.
        if ports.is_empty() || network.config.internal {
            return Ok(Vec::new());
        }
        let target = Target {
            container: endpoint.container,
            address: endpoint.address,
            address6: endpoint.address6.map(|(address, _)| address),
            default_host_ip: network.config.host_binding,
        };
        let published = self.ports.reserve(&target, ports)?;
        let elements: Vec<_> = published.iter().map(Element::of_port).collect();
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

    fn unpublish(&mut self, network: NetworkId, ports: &[Published]) -> Result<(), NetError> {
        let own: Vec<_> = ports.iter().filter(|port| self.published.remove(&(network, **port))).copied().collect();
        let elements: Vec<_> = own.iter().map(Element::of_port).collect();
        let removed = self.remove_elements(&elements);
        conntrack::forget_udp(&mut self.flows, &own);
        self.ports.release(&own);
        removed
    }

    /// Lets the host's loopback addresses reach the bridge, once a port is published that they can use.
    fn allow_loopback(&mut self, network: NetworkId, ports: &[Published]) -> Result<(), NetError> {
        let usable = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if ip.is_unspecified() || ip.is_loopback());
        let Some(network) = self.networks.get_mut(&network) else { return Ok(()) };
        if !network.loopback && ports.iter().any(|port| usable(port.host_ip)) {
            sysctl::set(&format!("ipv4/conf/{}/route_localnet", network.config.bridge), "1")?;
            network.loopback = true;
        }
        Ok(())
    }

    fn add_elements(&mut self, elements: &[Element]) -> Result<(), NetError> {
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
    fn remove_elements(&mut self, elements: &[Element]) -> Result<(), NetError> {
        match self.filter.remove(elements)? {
            Some(()) => Ok(()),
            None => self.rebuild(),
        }
    }

    /// Answers to what the monitor has heard.
    fn others_changed(&mut self, change: Change) {
        if change == Change::Ours {
            match self.rebuild() {
                Ok(()) => tracing::warn!("the firewall table was changed by another program; it is put back"),
                Err(error) => tracing::error!(%error, "putting the firewall table back"),
            }
        }
    }

    fn rebuild(&mut self) -> Result<(), NetError> {
        let networks = self.networks.values().flat_map(|network| Element::of_network(&network.config));
        let mut elements: Vec<_> =
            networks.chain(self.published.iter().map(|(_, port)| Element::of_port(port))).collect();
        elements.sort();
        self.filter.replace(self.others, &elements)
    }
}

fn ipv4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

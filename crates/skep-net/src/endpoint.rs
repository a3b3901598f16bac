//! An endpoint's link, and what is set up at its end in the container.

use std::thread;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustix::io::Errno;

use crate::bridge::{self, failed};
use crate::config::{Endpoint, EndpointConfig, Families};
use crate::error::NetError;
use crate::netlink::route::{self, Child, ChildLink, VethPair, Via};
use crate::netlink::{Batch, Socket};
use crate::netns::Netns;
use crate::network::{BridgeLink, MacvlanMode, NetworkConfig};

/// How long an earlier interface with the same addresses may take to go. On a shared parent the kernel refuses to have them
/// twice, and those of a container that was stopped go with its namespace, which the kernel cleans up when it likes.
const GOING: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// Makes the link of an endpoint; `index` is that of the bridge or the parent. On failure the host's end of a pair may be
/// left; the caller deletes it.
pub(crate) fn add_link(
    host: &mut Socket,
    (config, index): (&NetworkConfig, u32),
    netns: &Netns,
    endpoint: &mut Endpoint,
    wish: &EndpointConfig,
) -> Result<(), NetError> {
    match (config.as_bridge(), config.link.child()) {
        (Some(bridge), _) => add_veth(host, (config, bridge, index), netns, endpoint),
        (_, Some(child)) => add_child(host, (config, child, index), netns, (endpoint, wish)),
        (None, None) => Ok(()),
    }
}

/// Sets up the container's end of a link. On failure an interface without an end on the host is removed.
pub(crate) fn set_up_inside(
    netns: &Netns,
    config: &NetworkConfig,
    endpoint: &Endpoint,
    wish: &EndpointConfig,
) -> Result<(), NetError> {
    inside(netns, config, endpoint, wish).inspect_err(|_| {
        if endpoint.host_link.is_none()
            && let Err(error) = bridge::delete(&mut netns.route().lock(), &endpoint.ifname)
        {
            tracing::warn!(%error, container = %endpoint.container, "undoing a failed attach");
        }
    })
}

fn add_child(
    host: &mut Socket,
    (config, child, parent): (&NetworkConfig, Child, u32),
    netns: &Netns,
    (endpoint, wish): (&mut Endpoint, &EndpointConfig),
) -> Result<(), NetError> {
    let name = endpoint.ifname.clone();
    let mac = match child {
        Child::Macvlan(MacvlanMode::Passthru) => wish.mac,
        Child::Macvlan(_) => Some(endpoint.mac),
        Child::Ipvlan(..) if wish.mac.is_some() => {
            let why = "ipvlan interfaces do not support custom mac address assignment";
            return Err(NetError::Config(why.to_owned()));
        }
        Child::Ipvlan(..) => None,
    };
    let mut batch = Batch::new();
    let link = ChildLink { child, parent, netns: netns.fd(), name: &name, mac, mtu: config.mtu };
    route::add_child(&mut batch, &link);
    host.run(&batch).map_err(|e| failed("create", &name, e))?;
    // What shares its parent's address is told apart by it no longer, but shown with it.
    let link = netns.route().lock().link(&name).map_err(|e| failed("look up", &name, e))?;
    if let Some(mac) = link.and_then(|link| link.mac) {
        endpoint.mac = mac;
    }
    Ok(())
}

fn add_veth(
    host: &mut Socket,
    (config, bridge, index): (&NetworkConfig, &BridgeLink, u32),
    netns: &Netns,
    endpoint: &Endpoint,
) -> Result<(), NetError> {
    let host_name = endpoint.host_link.as_deref().unwrap_or_default();
    let pair = VethPair {
        host_name,
        bridge: index,
        netns: netns.fd(),
        peer_name: &endpoint.ifname,
        peer_mac: endpoint.mac,
        mtu: config.mtu,
    };
    let mut batch = Batch::new();
    route::add_veth(&mut batch, &pair);
    if let Some(mode) = bridge::port_mode(bridge) {
        route::set_port_mode(&mut batch, host_name, mode);
    }
    match host.run(&batch) {
        // Left by an attempt that was cut off: the name is of this container on this network only.
        Err(e) if e.errno == Errno::EXIST && host.link(host_name).is_ok_and(|link| link.is_some()) => {
            bridge::delete(host, host_name)?;
            host.run(&batch).map_err(|e| failed("create", host_name, e))
        }
        other => other.map_err(|e| failed("create", host_name, e)),
    }
}

/// Removes an endpoint's interface from inside its container's namespace; one that is gone is no error. The name decides only
/// between several on one parent: a container may have renamed it.
pub(crate) fn unplug_child(netns: &Netns, (child, parent): (Child, u32), ifname: &str) -> Result<(), NetError> {
    let mut socket = netns.route().lock();
    let links = socket.links().map_err(|e| failed("list", "links", e))?;
    let fitting = || links.iter().filter(|link| link.kind == child.kind() && link.parent == Some(parent));
    match fitting().find(|link| link.name == ifname).or(fitting().next()) {
        Some(link) => bridge::delete(&mut socket, &link.name),
        None => Ok(()),
    }
}

fn inside(netns: &Netns, config: &NetworkConfig, endpoint: &Endpoint, wish: &EndpointConfig) -> Result<(), NetError> {
    let ifname = endpoint.ifname.as_str();
    netns.set_up_ipv6(ifname, endpoint.address6.is_some()).map_err(|source| NetError::Link {
        operation: "set IPv6 of",
        object: ifname.to_owned(),
        source,
    })?;
    for (name, value) in &wish.sysctls {
        netns.set_sysctl(ifname, name, value)?;
    }
    let mut socket = netns.route().lock();
    let index = index_of(&mut socket, ifname)?;
    let mut batch = Batch::new();
    route::set_up(&mut batch, index);
    for address in addresses(endpoint) {
        route::add_address(&mut batch, index, address);
    }
    for gateway in ways_out(config, endpoint, Families { v4: wish.default_route, v6: wish.default_route6 }) {
        route::set_default_route(&mut batch, index, gateway);
    }
    let deadline = Instant::now() + GOING;
    loop {
        // Everything in it can be done twice.
        match socket.run(&batch) {
            Err(e) if e.errno == Errno::ADDRINUSE && Instant::now() < deadline => thread::sleep(PAUSE),
            done => return done.map_err(|e| failed("configure", ifname, e)),
        }
    }
}

/// Leads the container's default routes through this endpoint, in place of where they led before.
pub(crate) fn set_default_routes(
    netns: &Netns,
    config: &NetworkConfig,
    endpoint: &Endpoint,
    families: Families,
) -> Result<(), NetError> {
    let ifname = endpoint.ifname.as_str();
    let mut socket = netns.route().lock();
    let index = index_of(&mut socket, ifname)?;
    let mut batch = Batch::new();
    for gateway in ways_out(config, endpoint, families) {
        route::set_default_route(&mut batch, index, gateway);
    }
    socket.run(&batch).map_err(|e| failed("route through", ifname, e))
}

fn index_of(socket: &mut Socket, ifname: &str) -> Result<u32, NetError> {
    match socket.link(ifname).map_err(|e| failed("look up", ifname, e))? {
        Some(link) => Ok(link.index),
        None => Err(failed("look up", ifname, Errno::NODEV.into())),
    }
}

fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpNet> {
    let v4 = endpoint.address.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok()).map(IpNet::V4);
    let v6 = endpoint.address6.and_then(|(address, prefix)| Ipv6Net::new(address, prefix).ok()).map(IpNet::V6);
    let local = endpoint.link_local.iter().filter_map(|address| {
        let prefix = if address.is_ipv4() { 16 } else { 64 };
        IpNet::new(*address, prefix).ok()
    });
    v4.into_iter().chain(v6).chain(local)
}

/// Where the default routes of some families lead, if the network has a way out.
fn ways_out(config: &NetworkConfig, endpoint: &Endpoint, families: Families) -> impl Iterator<Item = Via> {
    let device = config.routes_into_device() && !config.internal;
    let v4 = endpoint.gateway.map(|ip| Via::Gateway(ip.into()));
    let v4 = v4.or_else(|| endpoint.address.filter(|_| device).map(|_| Via::Device4)).filter(|_| families.v4);
    let v6 = endpoint.gateway6.map(|ip| Via::Gateway(ip.into()));
    let v6 = v6.or_else(|| endpoint.address6.filter(|_| device).map(|_| Via::Device6)).filter(|_| families.v6);
    v4.into_iter().chain(v6)
}

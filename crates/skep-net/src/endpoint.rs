//! An endpoint's link, and what is set up at its end in the container.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustix::io::Errno;

use crate::bridge::{self, failed};
use crate::config::{Endpoint, EndpointConfig, Families};
use crate::error::NetError;
use crate::netlink::route::{self, VethPair};
use crate::netlink::{Batch, Socket};
use crate::netns::Netns;
use crate::network::{BridgeLink, NetworkConfig};

/// Makes the link of an endpoint of a bridge and sets up the container's end. On failure the link may be left; the caller
/// deletes it.
pub(crate) fn plug(
    host: &mut Socket,
    (config, bridge, index): (&NetworkConfig, &BridgeLink, u32),
    netns: &Netns,
    endpoint: &Endpoint,
    wish: &EndpointConfig,
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
    match host.run(&batch) {
        // Left by an attempt that was cut off: the name is of this container on this network only.
        Err(e) if e.errno == Errno::EXIST && host.link(host_name).is_ok_and(|link| link.is_some()) => {
            bridge::delete(host, host_name)?;
            host.run(&batch).map_err(|e| failed("create", host_name, e))?;
        }
        other => other.map_err(|e| failed("create", host_name, e))?,
    }
    bridge::set_port_mode(host, bridge, host_name)?;
    inside(netns, endpoint, wish)
}

fn inside(netns: &Netns, endpoint: &Endpoint, wish: &EndpointConfig) -> Result<(), NetError> {
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
    for address in addresses(endpoint) {
        route::add_address(&mut batch, index, address);
    }
    route::set_up(&mut batch, index);
    for gateway in gateways(endpoint, Families { v4: wish.default_route, v6: wish.default_route6 }) {
        route::set_default_route(&mut batch, index, gateway);
    }
    socket.run(&batch).map_err(|e| failed("configure", ifname, e))
}

/// Leads the container's default routes through this endpoint, in place of where they led before.
pub(crate) fn set_default_routes(netns: &Netns, endpoint: &Endpoint, families: Families) -> Result<(), NetError> {
    let ifname = endpoint.ifname.as_str();
    let mut socket = netns.route().lock();
    let index = index_of(&mut socket, ifname)?;
    let mut batch = Batch::new();
    for gateway in gateways(endpoint, families) {
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

fn gateways(endpoint: &Endpoint, families: Families) -> impl Iterator<Item = IpAddr> {
    let v4 = endpoint.gateway.filter(|_| families.v4).map(IpAddr::V4);
    v4.into_iter().chain(endpoint.gateway6.filter(|_| families.v6).map(IpAddr::V6))
}

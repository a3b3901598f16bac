//! The veth pair of an endpoint.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustix::io::Errno;

use crate::bridge::{self, failed};
use crate::config::{BridgeConfig, Endpoint};
use crate::error::NetError;
use crate::netlink::route::{self, VethPair};
use crate::netlink::{Batch, Socket};
use crate::netns::{Ipv6, Netns};

/// Makes the pair and sets up the container's end. On failure the link may be left; the caller deletes it.
pub(crate) fn plug(
    host: &mut Socket,
    config: &BridgeConfig,
    bridge_index: u32,
    netns: &Netns,
    endpoint: &Endpoint,
) -> Result<(), NetError> {
    let pair = VethPair {
        host_name: &endpoint.host_link,
        bridge: bridge_index,
        netns: netns.fd(),
        peer_name: &endpoint.ifname,
        peer_mac: endpoint.mac,
        mtu: config.mtu,
    };
    let mut batch = Batch::new();
    route::add_veth(&mut batch, &pair);
    match host.run(&batch) {
        // Left by an attempt that was cut off: the name is of this container on this network only.
        Err(e) if e.errno == Errno::EXIST && host.link(&endpoint.host_link).is_ok_and(|link| link.is_some()) => {
            bridge::delete(host, &endpoint.host_link)?;
            host.run(&batch).map_err(|e| failed("create", &endpoint.host_link, e))?;
        }
        other => other.map_err(|e| failed("create", &endpoint.host_link, e))?,
    }
    bridge::set_port_mode(host, config, &endpoint.host_link)?;
    inside(netns, endpoint)
}

fn inside(netns: &Netns, endpoint: &Endpoint) -> Result<(), NetError> {
    let ifname = endpoint.ifname.as_str();
    // Without this an interface of an IPv4 network takes addresses and routes that others on the link announce.
    let ipv6 = if endpoint.address6.is_some() { Ipv6::On } else { Ipv6::Off };
    netns.set_ipv6(ifname, ipv6).map_err(|source| NetError::Link {
        operation: "set IPv6 of",
        object: ifname.to_owned(),
        source,
    })?;
    let mut socket = netns.route().lock();
    let index = match socket.link(ifname).map_err(|e| failed("look up", ifname, e))? {
        Some(link) => link.index,
        None => return Err(failed("look up", ifname, Errno::NODEV.into())),
    };
    let mut batch = Batch::new();
    if let Ok(net) = Ipv4Net::new(endpoint.address, endpoint.prefix) {
        route::add_address(&mut batch, index, IpNet::V4(net));
    }
    if let Some(net) = endpoint.address6.and_then(|(address, prefix)| Ipv6Net::new(address, prefix).ok()) {
        route::add_address(&mut batch, index, IpNet::V6(net));
    }
    route::set_up(&mut batch, index);
    let gateways = endpoint.gateway.map(IpAddr::V4).into_iter().chain(endpoint.gateway6.map(IpAddr::V6));
    for gateway in gateways {
        route::add_default_route(&mut batch, index, gateway);
    }
    socket.run(&batch).map_err(|e| failed("configure", ifname, e))
}

//! Host ports: who has which, and a bound socket for each, so that host programs and other engines see it as taken.
//!
//! A TCP socket is bound, listens for a moment and is shut down again. Listening finds any other user of the port, also
//! one that allows address reuse; a socket that only is bound accepts nothing, so a packet that gets past the NAT rules
//! is refused instead of hanging.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, bind, ipproto, listen, shutdown, socket_with, sockopt,
};
use skep_types::ContainerId;

use crate::config::{HostPort, PortMapping, Protocol, Published};
use crate::error::{NetError, PortHolder};
use crate::{bridge, holder};

const LOCAL_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The published ports of all containers.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: BTreeMap<(Protocol, u16, IpAddr), Held>,
    /// Where the search for the next free port begins.
    next: u16,
}

#[derive(Debug)]
struct Held {
    container: ContainerId,
    /// `None` where the port was taken when the engine came back, or the kernel lacks the protocol.
    _socket: Option<OwnedFd>,
}

/// Where a container can be reached, and where its ports are published by default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) container: ContainerId,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) address6: Option<Ipv6Addr>,
    pub(crate) default_host_ip: Option<IpAddr>,
    /// The network has no IPv4 address translation: ports are opened where they are, the host has none for them.
    pub(crate) routed: bool,
    /// The same of IPv6.
    pub(crate) routed6: bool,
}

impl Ports {
    /// Reserves what `mappings` ask for: all or none.
    pub(crate) fn reserve(&mut self, target: &Target, mappings: &[PortMapping]) -> Result<Vec<Published>, NetError> {
        let mut done = Vec::new();
        for mapping in mappings {
            match self.reserve_one(target, mapping) {
                Ok(published) => done.extend(published),
                Err(e) => {
                    self.release(&done);
                    return Err(e);
                }
            }
        }
        Ok(done)
    }

    /// Gives ports back.
    pub(crate) fn release(&mut self, ports: &[Published]) {
        for port in ports {
            if port.is_translated() {
                self.held.remove(&(port.protocol, port.host_port, port.host_ip));
            }
        }
    }

    /// Takes a port again that was published before the engine was restarted; tells who has it, if it is taken.
    pub(crate) fn restore(&mut self, container: ContainerId, port: &Published) -> Option<PortHolder> {
        if !port.is_translated() {
            return None;
        }
        let (socket, holder) = match take(port.host_ip, port.host_port, port.protocol) {
            Ok(socket) => (socket, None),
            Err(NetError::PortInUse { holder, .. }) => (None, Some(holder)),
            Err(_) => (None, Some(PortHolder::Unknown)),
        };
        self.held.insert((port.protocol, port.host_port, port.host_ip), Held { container, _socket: socket });
        holder
    }

    fn reserve_one(&mut self, target: &Target, mapping: &PortMapping) -> Result<Vec<Published>, NetError> {
        let (first, last) = match mapping.host_port {
            HostPort::Exact(port) => (port, port),
            HostPort::Range(first, last) => (first, last),
            HostPort::Ephemeral => local_range(),
        };
        if first == 0 || last < first || mapping.container_port == 0 {
            return Err(NetError::PortRange(first, last));
        }
        let (routed, pairs): (Vec<Pair>, Vec<Pair>) =
            pairs(target, mapping.host_ip)?.into_iter().partition(|pair| target.is_routed(pair.container_ip));
        let direct = routed.iter().map(|pair| pair.published(0, mapping));
        if pairs.is_empty() {
            return Ok(direct.collect());
        }
        let begin = match mapping.host_port {
            HostPort::Ephemeral if (first..=last).contains(&self.next) => self.next,
            _ => first,
        };
        let mut refused = None;
        for port in (begin..=last).chain(first..begin) {
            match self.reserve_on(target, mapping, &pairs, port) {
                Ok(mut published) => {
                    published.extend(direct);
                    if mapping.host_port == HostPort::Ephemeral {
                        self.next = port.checked_add(1).unwrap_or(first);
                    }
                    return Ok(published);
                }
                Err(e @ NetError::PortInUse { .. }) if first == last => return Err(e),
                Err(e @ NetError::PortInUse { .. }) => refused = Some(e),
                Err(e) => return Err(e),
            }
        }
        tracing::debug!(first, last, error = ?refused, "no free port in range");
        Err(NetError::PortsExhausted)
    }

    /// Reserves one port number on each host address that the mapping means.
    fn reserve_on(
        &mut self,
        target: &Target,
        mapping: &PortMapping,
        pairs: &[Pair],
        port: u16,
    ) -> Result<Vec<Published>, NetError> {
        let (mut done, protocol) = (Vec::new(), mapping.protocol);
        for pair in pairs {
            let reserved = self.check(pair.host_ip, port, protocol).and_then(|()| take(pair.host_ip, port, protocol));
            match reserved {
                Ok(socket) => {
                    let held = Held { container: target.container, _socket: socket };
                    self.held.insert((protocol, port, pair.host_ip), held);
                    done.push(pair.published(port, mapping));
                }
                Err(e) => {
                    self.release(&done);
                    return Err(e);
                }
            }
        }
        Ok(done)
    }

    /// Two containers can share a port number only on different addresses of one family.
    fn check(&self, ip: IpAddr, port: u16, protocol: Protocol) -> Result<(), NetError> {
        let all = (protocol, port, IpAddr::V4(Ipv4Addr::UNSPECIFIED))..=(protocol, port, IpAddr::V6(u128::MAX.into()));
        for ((_, _, other), held) in self.held.range(all) {
            let same_family = other.is_ipv4() == ip.is_ipv4();
            if same_family && (*other == ip || other.is_unspecified() || ip.is_unspecified()) {
                let address = SocketAddr::new(ip, port);
                return Err(NetError::PortInUse { address, protocol, holder: PortHolder::Container(held.container) });
            }
        }
        Ok(())
    }
}

/// An address of the host and the container's of the same family.
#[derive(Debug, Clone, Copy)]
struct Pair {
    host_ip: IpAddr,
    container_ip: IpAddr,
}

impl Pair {
    fn published(&self, host_port: u16, mapping: &PortMapping) -> Published {
        Published {
            host_ip: self.host_ip,
            host_port,
            container_ip: self.container_ip,
            container_port: mapping.container_port,
            protocol: mapping.protocol,
        }
    }
}

impl Target {
    fn is_routed(&self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.routed } else { self.routed6 }
    }
}

/// The host addresses that a mapping means.
fn pairs(target: &Target, wish: Option<IpAddr>) -> Result<Vec<Pair>, NetError> {
    let v4 = target.address.map(IpAddr::V4);
    let v6 = target.address6.map(IpAddr::V6);
    let Some(ip) = wish.or(target.default_host_ip) else {
        let all = [(Ipv4Addr::UNSPECIFIED.into(), v4), (Ipv6Addr::UNSPECIFIED.into(), v6)];
        return Ok(all.into_iter().filter_map(|(host_ip, own)| Some(Pair { host_ip, container_ip: own? })).collect());
    };
    if ip == IpAddr::V6(Ipv6Addr::LOCALHOST) && bridge::filters_ipv6() {
        return Err(NetError::Config(
            "cannot publish on ::1 while net.bridge.bridge-nf-call-ip6tables is 1: the kernel drops the answers"
                .to_owned(),
        ));
    }
    let (own, family) = if ip.is_ipv4() { (v4, "IPv4") } else { (v6, "IPv6") };
    match own {
        Some(container_ip) => Ok(vec![Pair { host_ip: ip, container_ip }]),
        None => Err(NetError::Config(format!("cannot publish on {ip}: the container has no {family} address"))),
    }
}

/// Binds a socket to the port; `None` if the kernel does not know the protocol.
fn take(ip: IpAddr, port: u16, protocol: Protocol) -> Result<Option<OwnedFd>, NetError> {
    let address = SocketAddr::new(ip, port);
    match bound(address, protocol) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) => Ok(None),
        Err(Errno::ADDRINUSE) => {
            Err(NetError::PortInUse { address, protocol, holder: holder::find(address, protocol) })
        }
        Err(Errno::ADDRNOTAVAIL) => Err(NetError::NotAHostAddress { address, protocol }),
        Err(e) => Err(NetError::Bind { address, protocol, source: e.into() }),
    }
}

fn bound(address: SocketAddr, protocol: Protocol) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of an earlier user in TIME_WAIT do not matter; others are found by listen.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, 1)?;
        shutdown(&socket, Shutdown::Read)?;
        sockopt::set_socket_reuseaddr(&socket, false)?;
    } else {
        bind(&socket, &address)?;
    }
    Ok(socket)
}

/// The range that the kernel takes local ports from.
fn local_range() -> (u16, u16) {
    let text = std::fs::read_to_string(LOCAL_RANGE).unwrap_or_default();
    let mut numbers = text.split_whitespace().map_while(|n| n.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) if first > 0 && first <= last => (first, last),
        _ => (32768, 60999),
    }
}

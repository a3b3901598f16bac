//! Connections that the kernel remembers.
//!
//! A UDP flow that began before its port was published, or that outlives the container, keeps its old way for as long as
//! packets flow. The entries of such flows are deleted. TCP needs no such help: its connections end with the container.

use std::net::IpAddr;

use crate::config::{Protocol, Published};
use crate::netlink::{Batch, Socket, find};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const UDP: u8 = 17;

/// Deletes the UDP flows to host ports in `ports` and those that were forwarded to their containers.
///
/// Failing leaves flows that time out by themselves, so it is only logged.
pub(crate) fn forget_udp(socket: &mut Socket, ports: &[Published]) {
    let udp: Vec<_> = ports.iter().filter(|port| port.protocol == Protocol::Udp).collect();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let ours: Vec<_> = udp.iter().filter(|port| port.host_ip.is_ipv4() == (family == libc::AF_INET)).collect();
        if ours.is_empty() {
            continue;
        }
        let family = u8::try_from(family).unwrap_or_default();
        let mut stale = Vec::new();
        let mut batch = Batch::new();
        batch.message(SUBSYSTEM << 8 | GET, libc::NLM_F_DUMP, |m| m.raw(&[family, 0, 0, 0]));
        let listed = socket.exchange(&batch, |_, payload| {
            let Some(attrs) = payload.get(4..) else { return };
            if let Some(tuple) = find(attrs, TUPLE_ORIGINAL)
                && ours.iter().any(|port| concerns(port, tuple, find(attrs, TUPLE_REPLY)))
            {
                stale.push(tuple.to_vec());
            }
        });
        let mut batch = Batch::new();
        for tuple in &stale {
            batch.message(SUBSYSTEM << 8 | DELETE, libc::NLM_F_ACK, |m| {
                m.raw(&[family, 0, 0, 0]);
                m.nest(TUPLE_ORIGINAL, |m| m.raw(tuple));
            });
        }
        let deleted = if stale.is_empty() { Ok(()) } else { socket.run(&batch) };
        if let Err(error) = listed.and(deleted) {
            tracing::debug!(%error, flows = stale.len(), "old UDP flows are left to time out");
        }
    }
}

/// A flow that was sent to the host port, or whose answers come from the container's port.
fn concerns(port: &Published, original: &[u8], reply: Option<&[u8]>) -> bool {
    let to_host = port_of(original, 3) == Some(port.host_port)
        && (port.host_ip.is_unspecified() || address_of(original, port.host_ip, 2, 4) == Some(port.host_ip));
    let from_container = reply.is_some_and(|reply| {
        port_of(reply, 2) == Some(port.container_port)
            && address_of(reply, port.container_ip, 1, 3) == Some(port.container_ip)
    });
    to_host || from_container
}

fn port_of(tuple: &[u8], kind: u16) -> Option<u16> {
    let protocol = find(tuple, TUPLE_PROTOCOL)?;
    if find(protocol, 1)?.first() != Some(&UDP) {
        return None;
    }
    find(protocol, kind)?.first_chunk().map(|port| u16::from_be_bytes(*port))
}

/// The tuple's address of the same family as `like`: attribute `v4` or `v6`.
fn address_of(tuple: &[u8], like: IpAddr, v4: u16, v6: u16) -> Option<IpAddr> {
    let addresses = find(tuple, TUPLE_IP)?;
    match like {
        IpAddr::V4(_) => find(addresses, v4)?.first_chunk::<4>().map(|b| IpAddr::from(*b)),
        IpAddr::V6(_) => find(addresses, v6)?.first_chunk::<16>().map(|b| IpAddr::from(*b)),
    }
}

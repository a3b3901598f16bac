//! The host's links, addresses and ways out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::packet::Interface;
use crate::netlink::{Batch, Refused, Socket, find};

const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;
const LOOPBACK: u32 = 1;

/// An address of a link, with the length of its subnet's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) link: u32,
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
}

#[derive(Debug, Default)]
pub(super) struct Host {
    links: Vec<Interface>,
    pub(super) addresses: Vec<Address>,
    /// The links of the default routes of IPv4 and IPv6.
    defaults: [Option<u32>; 2],
}

impl Host {
    pub(super) fn read(socket: &mut Socket) -> Result<Host, Refused> {
        let links = socket.links()?;
        let mut host = Host {
            links: links.into_iter().map(|link| Interface { name: link.name, index: link.index }).collect(),
            ..Host::default()
        };
        let mut batch = Batch::new();
        batch.message(libc::RTM_GETADDR, libc::NLM_F_DUMP, |m| m.raw(&[0; ADDRESS_HEADER]));
        socket.exchange(&batch, |_, payload| host.addresses.extend(address(payload)))?;
        for (n, family) in [2, 10].into_iter().enumerate() {
            let mut batch = Batch::new();
            batch.message(libc::RTM_GETROUTE, libc::NLM_F_DUMP, |m| {
                let mut header = [0; ROUTE_HEADER];
                header[0] = family;
                m.raw(&header);
            });
            let found = &mut host.defaults[n];
            socket.exchange(&batch, |_, payload| *found = found.or(default_route(payload)))?;
        }
        Ok(host)
    }

    pub(super) fn link(&self, name: &str) -> Option<&Interface> {
        self.links.iter().find(|link| link.name == name)
    }

    pub(super) fn loopback(&self) -> Interface {
        let found = self.links.iter().find(|link| link.index == LOOPBACK);
        found.cloned().unwrap_or(Interface { name: "lo".to_owned(), index: LOOPBACK })
    }

    /// All addresses of the host itself.
    pub(super) fn own(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(|own| own.address).collect()
    }

    /// The links by which other hosts are reached, each with the host's first address there; `except` are the engine's.
    pub(super) fn uplinks(&self, v6: bool, except: &[&str]) -> Vec<(&Interface, Address)> {
        let others = self.links.iter().filter(|link| link.index != LOOPBACK && !except.contains(&link.name.as_str()));
        let with_address = others.filter_map(|link| {
            let own = self
                .addresses
                .iter()
                .find(|own| own.link == link.index && own.address.is_ipv6() == v6 && !is_link_local(own.address));
            Some((link, *own?))
        });
        with_address.collect()
    }

    /// The link of the default route.
    pub(super) fn default_link(&self, v6: bool) -> Option<&Interface> {
        let index = self.defaults[usize::from(v6)]?;
        self.links.iter().find(|link| link.index == index)
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn address(payload: &[u8]) -> Option<Address> {
    let attrs = payload.get(ADDRESS_HEADER..)?;
    let bytes = find(attrs, libc::IFA_LOCAL).or_else(|| find(attrs, libc::IFA_ADDRESS))?;
    let four = bytes.first_chunk::<4>().filter(|_| bytes.len() == 4).map(|b| IpAddr::from(Ipv4Addr::from(*b)));
    let address = four.or_else(|| bytes.first_chunk::<16>().map(|b| IpAddr::from(Ipv6Addr::from(*b))))?;
    let link = payload.get(4..8)?.first_chunk().map(|b| u32::from_ne_bytes(*b))?;
    Some(Address { link, address, prefix: *payload.get(1)? })
}

/// The link of a route of the main table to everywhere.
fn default_route(payload: &[u8]) -> Option<u32> {
    let (length, table, kind) = (*payload.get(1)?, *payload.get(4)?, *payload.get(7)?);
    let link = find(payload.get(ROUTE_HEADER..)?, libc::RTA_OIF)?.first_chunk().map(|b| u32::from_ne_bytes(*b));
    link.filter(|_| (length, table, kind) == (0, libc::RT_TABLE_MAIN, libc::RTN_UNICAST))
}

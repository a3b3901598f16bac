//! The rtnetlink requests of container networks (rtnetlink(7)): links, addresses, routes.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use rustix::io::Errno;

use super::socket::{Refused, Socket};
use super::wire::{Batch, Message, find, read_u32};
use crate::config::LinkStats;
use crate::mac::MacAddr;
use crate::network::{IpvlanFlag, IpvlanMode, MacvlanMode};

const ACK: i32 = libc::NLM_F_ACK;
const CREATE: i32 = ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const UP: u32 = libc::IFF_UP as u32;

const VETH_INFO_PEER: u16 = 1;
const BR_FORWARD_DELAY: u16 = 1;
const BR_STP_STATE: u16 = 5;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const BRPORT_MODE: u16 = 4;
const BRPORT_ISOLATED: u16 = 33;
const IFLA_IFALIAS: u16 = 20;
const IFLA_VLAN_ID: u16 = 1;
/// The mode of a macvlan or ipvlan link, and the flags of an ipvlan one.
const CHILD_MODE: u16 = 1;
const IPVLAN_FLAGS: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// Address families, which messages have as one byte.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const LOOPBACK6_METRIC: u32 = 4096;
const LINK_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;

/// What is known of a link.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) alias: String,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) master: Option<u32>,
    /// What it is on top of, or its other end; the index may be one of another namespace.
    pub(crate) parent: Option<u32>,
    pub(crate) stats: LinkStats,
}

/// The two ends of a veth pair.
#[derive(Debug)]
pub(crate) struct VethPair<'a> {
    pub(crate) host_name: &'a str,
    pub(crate) bridge: u32,
    pub(crate) netns: BorrowedFd<'a>,
    pub(crate) peer_name: &'a str,
    pub(crate) peer_mac: MacAddr,
    pub(crate) mtu: Option<u32>,
}

/// The kind of a link on top of a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Child {
    Macvlan(MacvlanMode),
    Ipvlan(IpvlanMode, IpvlanFlag),
}

/// A link on top of a parent, in a container's namespace.
#[derive(Debug)]
pub(crate) struct ChildLink<'a> {
    pub(crate) child: Child,
    pub(crate) parent: u32,
    pub(crate) netns: BorrowedFd<'a>,
    pub(crate) name: &'a str,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) mtu: Option<u32>,
}

impl Socket {
    /// The link called `name`; `None` if there is none.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>, Refused> {
        let mut batch = Batch::new();
        batch.message(libc::RTM_GETLINK, ACK, |m| {
            link_header(m, 0, 0, 0);
            m.text(libc::IFLA_IFNAME, name);
        });
        let mut link = None;
        match self.exchange(&batch, |_, payload| link = link.take().or(parse_link(payload))) {
            Err(Refused { errno: Errno::NODEV, .. }) => Ok(None),
            Err(e) => Err(e),
            Ok(()) => Ok(link),
        }
    }

    /// All links of the namespace.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>, Refused> {
        let mut batch = Batch::new();
        batch.message(libc::RTM_GETLINK, libc::NLM_F_DUMP, |m| link_header(m, 0, 0, 0));
        let mut links = Vec::new();
        self.exchange(&batch, |_, payload| links.extend(parse_link(payload)))?;
        Ok(links)
    }

    /// Destinations of all routes of the host, of every table but that of its own addresses.
    pub(crate) fn route_destinations(&mut self) -> Result<Vec<IpNet>, Refused> {
        let mut nets = Vec::new();
        // One after the other: the kernel refuses a dump while another one is going on.
        for family in [AF_INET, AF_INET6] {
            let mut batch = Batch::new();
            batch.message(libc::RTM_GETROUTE, libc::NLM_F_DUMP, |m| {
                m.raw(&[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            });
            self.exchange(&batch, |_, payload| nets.extend(parse_destination(payload)))?;
        }
        Ok(nets)
    }
}

/// The destination of a route; none for a default route.
fn parse_destination(payload: &[u8]) -> Option<IpNet> {
    let (prefix, table) = (*payload.get(1)?, *payload.get(4)?);
    let bytes = find(payload.get(ROUTE_HEADER..)?, libc::RTA_DST)?;
    let address: IpAddr = match payload.first()? {
        &AF_INET => (*bytes.first_chunk::<4>()?).into(),
        _ => (*bytes.first_chunk::<16>()?).into(),
    };
    IpNet::new(address, prefix).ok().filter(|_| table != libc::RT_TABLE_LOCAL)
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let attrs = payload.get(LINK_HEADER..)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    Some(Link {
        index: read_u32(payload.get(4..)?)?,
        name: text(find(attrs, libc::IFLA_IFNAME)?),
        kind: find(attrs, libc::IFLA_LINKINFO)
            .and_then(|info| find(info, libc::IFLA_INFO_KIND))
            .map(text)
            .unwrap_or_default(),
        alias: find(attrs, IFLA_IFALIAS).map(text).unwrap_or_default(),
        mac: find(attrs, libc::IFLA_ADDRESS).and_then(<[u8]>::first_chunk).map(|bytes| MacAddr(*bytes)),
        master: find(attrs, libc::IFLA_MASTER).and_then(read_u32),
        parent: find(attrs, libc::IFLA_LINK).and_then(read_u32),
        stats: find(attrs, libc::IFLA_STATS64).and_then(parse_stats).unwrap_or_default(),
    })
}

/// `struct rtnl_link_stats64`, from its own side.
fn parse_stats(bytes: &[u8]) -> Option<LinkStats> {
    let at = |index: usize| bytes.get(index * 8..).and_then(<[u8]>::first_chunk).map(|b| u64::from_ne_bytes(*b));
    Some(LinkStats {
        rx_packets: at(0)?,
        tx_packets: at(1)?,
        rx_bytes: at(2)?,
        tx_bytes: at(3)?,
        rx_errors: at(4)?,
        tx_errors: at(5)?,
        rx_dropped: at(6)?,
        tx_dropped: at(7)?,
    })
}

/// `struct ifinfomsg`: family and type 0, index, flags and which of them to change.
fn link_header(m: &mut Message<'_>, index: u32, flags: u32, change: u32) {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    m.raw(&header);
}

/// A bridge that forwards at once: no spanning tree, no delay. It starts down.
pub(crate) fn add_bridge(batch: &mut Batch, name: &str, mac: MacAddr, mtu: Option<u32>) {
    batch.message(libc::RTM_NEWLINK, CREATE, |m| {
        link_header(m, 0, 0, 0);
        m.text(libc::IFLA_IFNAME, name);
        m.bytes(libc::IFLA_ADDRESS, &mac.0);
        if let Some(mtu) = mtu {
            m.u32(libc::IFLA_MTU, mtu);
        }
        m.nest(libc::IFLA_LINKINFO, |m| {
            m.text(libc::IFLA_INFO_KIND, "bridge");
            m.nest(libc::IFLA_INFO_DATA, |m| {
                m.u32(BR_STP_STATE, 0);
                m.u32(BR_FORWARD_DELAY, 0);
            });
        });
    });
}

/// A veth pair: one end up and in the bridge, the other one in the container's namespace, with name and address, down.
pub(crate) fn add_veth(batch: &mut Batch, pair: &VethPair<'_>) {
    batch.message(libc::RTM_NEWLINK, CREATE, |m| {
        link_header(m, 0, UP, UP);
        m.text(libc::IFLA_IFNAME, pair.host_name);
        m.u32(libc::IFLA_MASTER, pair.bridge);
        if let Some(mtu) = pair.mtu {
            m.u32(libc::IFLA_MTU, mtu);
        }
        m.nest(libc::IFLA_LINKINFO, |m| {
            m.text(libc::IFLA_INFO_KIND, "veth");
            m.nest(libc::IFLA_INFO_DATA, |m| {
                m.nest_unmarked(VETH_INFO_PEER, |m| {
                    link_header(m, 0, 0, 0);
                    m.text(libc::IFLA_IFNAME, pair.peer_name);
                    m.bytes(libc::IFLA_ADDRESS, &pair.peer_mac.0);
                    m.bytes(libc::IFLA_NET_NS_FD, &pair.netns.as_raw_fd().to_ne_bytes());
                    if let Some(mtu) = pair.mtu {
                        m.u32(libc::IFLA_MTU, mtu);
                    }
                });
            });
        });
    });
}

/// A macvlan or ipvlan link, down, in the container's namespace from the first moment.
pub(crate) fn add_child(batch: &mut Batch, link: &ChildLink<'_>) {
    batch.message(libc::RTM_NEWLINK, CREATE, |m| {
        link_header(m, 0, 0, 0);
        m.text(libc::IFLA_IFNAME, link.name);
        m.u32(libc::IFLA_LINK, link.parent);
        m.bytes(libc::IFLA_NET_NS_FD, &link.netns.as_raw_fd().to_ne_bytes());
        if let Some(mac) = link.mac {
            m.bytes(libc::IFLA_ADDRESS, &mac.0);
        }
        if let Some(mtu) = link.mtu {
            m.u32(libc::IFLA_MTU, mtu);
        }
        m.nest(libc::IFLA_LINKINFO, |m| {
            m.text(libc::IFLA_INFO_KIND, link.child.kind());
            m.nest(libc::IFLA_INFO_DATA, |m| match link.child {
                Child::Macvlan(_) => m.u32(CHILD_MODE, link.child.mode()),
                Child::Ipvlan(..) => {
                    m.u16(CHILD_MODE, u16::try_from(link.child.mode()).unwrap_or_default());
                    m.u16(IPVLAN_FLAGS, link.child.flags());
                }
            });
        });
    });
}

/// A VLAN of a link, up and marked by an alias.
pub(crate) fn add_vlan(batch: &mut Batch, name: &str, base: u32, tag: u16, alias: &str) {
    batch.message(libc::RTM_NEWLINK, CREATE, |m| {
        link_header(m, 0, 0, 0);
        m.text(libc::IFLA_IFNAME, name);
        m.u32(libc::IFLA_LINK, base);
        m.nest(libc::IFLA_LINKINFO, |m| {
            m.text(libc::IFLA_INFO_KIND, "vlan");
            m.nest(libc::IFLA_INFO_DATA, |m| m.u16(IFLA_VLAN_ID, tag));
        });
    });
    mark_up(batch, name, alias);
}

/// A link of a kind that needs nothing but its name, up and marked by an alias.
pub(crate) fn add_marked(batch: &mut Batch, name: &str, kind: &str, alias: &str) {
    batch.message(libc::RTM_NEWLINK, CREATE, |m| {
        link_header(m, 0, 0, 0);
        m.text(libc::IFLA_IFNAME, name);
        m.nest(libc::IFLA_LINKINFO, |m| m.text(libc::IFLA_INFO_KIND, kind));
    });
    mark_up(batch, name, alias);
}

/// Gives a link an alias. One that is given as the link is made is ignored by the kernel, so it comes behind, in the same batch.
pub(crate) fn mark(batch: &mut Batch, name: &str, alias: &str) {
    batch.message(libc::RTM_SETLINK, ACK, |m| {
        link_header(m, 0, 0, 0);
        m.text(libc::IFLA_IFNAME, name);
        m.text(IFLA_IFALIAS, alias);
    });
}

fn mark_up(batch: &mut Batch, name: &str, alias: &str) {
    batch.message(libc::RTM_SETLINK, ACK, |m| {
        link_header(m, 0, UP, UP);
        m.text(libc::IFLA_IFNAME, name);
        m.text(IFLA_IFALIAS, alias);
    });
}

/// Asks for a link of a kind that needs another link, without saying which: what the kernel does not know is refused
/// otherwise than what lacks something.
pub(crate) fn probe(batch: &mut Batch, kind: &str) {
    batch.message(libc::RTM_NEWLINK, CREATE, |m| {
        link_header(m, 0, 0, 0);
        m.nest(libc::IFLA_LINKINFO, |m| m.text(libc::IFLA_INFO_KIND, kind));
    });
}

/// How a bridge treats a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortMode {
    /// It can't reach other isolated ports, only the bridge itself.
    Isolated,
    /// Frames may go back to where they came from.
    Hairpin,
}

/// Sets the mode of a link that is a bridge's port. By its name, so that it can travel with the request that makes the link.
pub(crate) fn set_port_mode(batch: &mut Batch, name: &str, mode: PortMode) {
    batch.message(libc::RTM_NEWLINK, ACK, |m| {
        link_header(m, 0, 0, 0);
        m.text(libc::IFLA_IFNAME, name);
        let attribute = if mode == PortMode::Isolated { BRPORT_ISOLATED } else { BRPORT_MODE };
        m.nest(libc::IFLA_LINKINFO, |m| {
            m.text(INFO_SLAVE_KIND, "bridge");
            m.nest(INFO_SLAVE_DATA, |m| m.u8(attribute, 1));
        });
    });
}

pub(crate) fn set_up(batch: &mut Batch, index: u32) {
    batch.message(libc::RTM_NEWLINK, ACK, |m| link_header(m, index, UP, UP));
}

/// Puts a link into a bridge, or moves it there.
pub(crate) fn set_master(batch: &mut Batch, index: u32, bridge: u32) {
    batch.message(libc::RTM_NEWLINK, ACK, |m| {
        link_header(m, index, UP, UP);
        m.u32(libc::IFLA_MASTER, bridge);
    });
}

pub(crate) fn delete_link(batch: &mut Batch, name: &str) {
    batch.message(libc::RTM_DELLINK, ACK, |m| {
        link_header(m, 0, 0, 0);
        m.text(libc::IFLA_IFNAME, name);
    });
}

/// Puts a link into a group.
pub(crate) fn set_group(batch: &mut Batch, name: &str, group: u32) {
    batch.message(libc::RTM_SETLINK, ACK, |m| {
        link_header(m, 0, 0, 0);
        m.text(libc::IFLA_IFNAME, name);
        m.u32(libc::IFLA_GROUP, group);
    });
}

/// Deletes all links of a group.
pub(crate) fn delete_group(batch: &mut Batch, group: u32) {
    batch.message(libc::RTM_DELLINK, ACK, |m| {
        link_header(m, 0, 0, 0);
        m.u32(libc::IFLA_GROUP, group);
    });
}

/// Adds an address that is usable at once: IPv6 ones skip duplicate detection. One that is there already is left.
pub(crate) fn add_address(batch: &mut Batch, index: u32, address: IpNet) {
    batch.message(libc::RTM_NEWADDR, ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE, |m| {
        let mut header = [0; 8];
        header[0] = family(address.addr());
        header[1] = address.prefix_len();
        header[4..].copy_from_slice(&index.to_ne_bytes());
        m.raw(&header);
        ip_attribute(m, libc::IFA_LOCAL, address.addr());
        ip_attribute(m, libc::IFA_ADDRESS, address.addr());
        match address {
            IpNet::V4(net) => m.bytes(libc::IFA_BROADCAST, &net.broadcast().octets()),
            IpNet::V6(_) => m.u32(IFA_FLAGS, libc::IFA_F_NODAD),
        }
    });
}

/// Where a default route leads, besides the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// A router.
    Gateway(IpAddr),
    /// Nobody: the interface takes all IPv4 packets.
    Device4,
    /// The interface takes all IPv6 packets.
    Device6,
}

/// A default route, in place of the one that there is.
pub(crate) fn set_default_route(batch: &mut Batch, index: u32, via: Via) {
    batch.message(libc::RTM_NEWROUTE, ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE, |m| {
        let mut header = [0; ROUTE_HEADER];
        header[0] = match via {
            Via::Gateway(gateway) => family(gateway),
            Via::Device4 => AF_INET,
            Via::Device6 => AF_INET6,
        };
        header[4] = libc::RT_TABLE_MAIN;
        header[5] = libc::RTPROT_BOOT;
        header[6] = if via == Via::Device4 { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
        header[7] = libc::RTN_UNICAST;
        m.raw(&header);
        if let Via::Gateway(gateway) = via {
            ip_attribute(m, libc::RTA_GATEWAY, gateway);
        }
        m.u32(libc::RTA_OIF, index);
    });
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

fn ip_attribute(m: &mut Message<'_>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(ip) => m.bytes(kind, &ip.octets()),
        IpAddr::V6(ip) => m.bytes(kind, &ip.octets()),
    }
}

/// A local route to `::1` by a link, farther than that of `lo`.
pub(crate) fn add_loopback6_route(batch: &mut Batch, index: u32) {
    batch.message(libc::RTM_NEWROUTE, CREATE, |m| {
        let mut header = [0; ROUTE_HEADER];
        header[0] = AF_INET6;
        header[1] = 128;
        header[4] = libc::RT_TABLE_LOCAL;
        header[5] = libc::RTPROT_BOOT;
        header[6] = libc::RT_SCOPE_UNIVERSE;
        header[7] = libc::RTN_LOCAL;
        m.raw(&header);
        m.bytes(libc::RTA_DST, &std::net::Ipv6Addr::LOCALHOST.octets());
        m.u32(libc::RTA_PRIORITY, LOOPBACK6_METRIC);
        m.u32(libc::RTA_OIF, index);
    });
}

//! Matches of iptables, as iptables-nft leaves them in rules: structs of the kernel's old interface
//! (linux/netfilter/xt_*.h).

use std::net::IpAddr;

use super::packet::Packet;
use super::value::{Truth, Value};

const STATE_NEW: u16 = 8;
const STATE_DNAT: u16 = 1 << 7;
const MATCH_STATE: u16 = 1;
const TYPE_UNICAST: u16 = 1 << 1;
const TYPE_LOCAL: u16 = 1 << 2;
const SYN: u8 = 2;

/// Whether a packet matches; `Open` also for matches that are not known here.
pub(super) fn matches(name: &str, revision: u32, info: &[u8], packet: &Packet, local: &[IpAddr]) -> Truth {
    let known = match name {
        "comment" => Some(Truth::Yes),
        "conntrack" if revision >= 2 => conntrack(info, packet),
        "state" => u32_at(info, 0).map(|mask| Truth::of(mask & u32::from(STATE_NEW) != 0)),
        "addrtype" if revision == 1 => address_type(info, packet, local),
        "tcp" if packet.protocol == 6 => tcp(info, packet),
        "udp" if packet.protocol == 17 => udp(info, packet),
        "tcp" | "udp" => Some(Truth::No),
        "multiport" if revision == 1 => multiport(info, packet),
        "mark" => mark(info, packet),
        _ => None,
    };
    known.unwrap_or(Truth::Open)
}

fn conntrack(info: &[u8], packet: &Packet) -> Option<Truth> {
    let (flags, inverted, states) = (u16_at(info, 146)?, u16_at(info, 148)?, u16_at(info, 150)?);
    if flags != MATCH_STATE {
        return None;
    }
    let state = STATE_NEW | if packet.translated { STATE_DNAT } else { 0 };
    Some(Truth::of((states & state != 0) != (inverted & MATCH_STATE != 0)))
}

fn address_type(info: &[u8], packet: &Packet, local: &[IpAddr]) -> Option<Truth> {
    let (source, destination, flags) = (u16_at(info, 0)?, u16_at(info, 2)?, u32_at(info, 4)?);
    if flags & !3 != 0 {
        return None;
    }
    let holds = |wanted: u16, is_local: bool, inverted: bool| {
        let own = if is_local { TYPE_LOCAL } else { TYPE_UNICAST };
        Truth::of(wanted == 0 || (wanted & own != 0) != inverted)
    };
    let of_source = holds(source, packet.from_host, flags & 1 != 0);
    Some(of_source.and(holds(destination, packet.is_local(local), flags & 2 != 0)))
}

fn tcp(info: &[u8], packet: &Packet) -> Option<Truth> {
    let [option, mask, wanted, inverted] = *info.get(8..)?.first_chunk()?;
    let flags = Truth::of(((SYN & mask) == wanted) != (inverted & 4 != 0));
    let options = if option == 0 { Truth::Yes } else { Truth::Open };
    Some(ports(info, inverted, packet)?.and(flags).and(options))
}

fn udp(info: &[u8], packet: &Packet) -> Option<Truth> {
    ports(info, *info.get(8)?, packet)
}

/// Ranges of source and destination ports, in the host's byte order.
fn ports(info: &[u8], inverted: u8, packet: &Packet) -> Option<Truth> {
    let (first, last) = (u16_at(info, 0)?, u16_at(info, 2)?);
    let source = if (first, last) == (0, u16::MAX) { Truth::Yes } else { Truth::Open };
    let wanted = between(&packet.port, u16_at(info, 4)?, u16_at(info, 6)?);
    Some(source.and(if inverted & 2 != 0 { wanted.not() } else { wanted }))
}

fn multiport(info: &[u8], packet: &Packet) -> Option<Truth> {
    let (direction, count) = (*info.first()?, usize::from(*info.get(1)?).min(15));
    if direction != 1 {
        return None;
    }
    let (mut found, mut n) = (Truth::No, 0);
    while n < count {
        let first = u16_at(info, 2 + n * 2)?;
        let is_range = *info.get(32 + n)? != 0;
        n += if is_range { 2 } else { 1 };
        let last = u16_at(info, n * 2)?;
        found = found.not().and(between(&packet.port, first, last).not()).not();
    }
    Some(if *info.get(47)? != 0 { found.not() } else { found })
}

fn mark(info: &[u8], packet: &Packet) -> Option<Truth> {
    let (mark, mask) = (info.get(..4)?, info.get(4..8)?);
    let holds = packet.mark.masked(mask, &[0; 4]).equals(mark);
    Some(if *info.get(8)? != 0 { holds.not() } else { holds })
}

fn between(port: &Value, first: u16, last: u16) -> Truth {
    port.within(&first.to_be_bytes(), &last.to_be_bytes())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

//! Subnets for networks that were not given one: cut from pools, clear of what the host uses already.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::NetError;

/// Where the name servers of the host are said.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Shorter prefixes than these are directions, such as the two halves of the world that VPNs route, and no networks.
const SHORTEST: (u8, u8) = (8, 8);

/// A range of addresses that is cut into subnets of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPool {
    base: IpNet,
    size: u8,
}

impl AddressPool {
    /// Subnets with prefixes of `size` bits out of `base`; `None` if they do not fit in.
    pub fn new(base: IpNet, size: u8) -> Option<Self> {
        (size >= base.prefix_len() && size <= base.max_prefix_len()).then(|| AddressPool { base: base.trunc(), size })
    }

    /// As [`AddressPool::new`], from an address in the base and its prefix.
    pub fn of(address: IpAddr, prefix: u8, size: u8) -> Option<Self> {
        IpNet::new(address, prefix).ok().and_then(|base| AddressPool::new(base, size))
    }

    /// Docker's pools of IPv4: 172.17.0.0/16 to 172.31.0.0/16, then the /20s of 192.168.0.0/16.
    pub fn defaults() -> Vec<AddressPool> {
        let pool = |a, b, bits, size| Ipv4Net::new(Ipv4Addr::new(a, b, 0, 0), bits).map(|net| (IpNet::V4(net), size));
        let large =
            [(17, 16), (18, 16), (19, 16), (20, 14), (24, 14), (28, 14)].map(|(n, bits)| pool(172, n, bits, 16));
        let pools = large.into_iter().chain([pool(192, 168, 16, 20)]);
        pools.flatten().filter_map(|(base, size)| AddressPool::new(base, size)).collect()
    }

    /// A pool of IPv6 of this host's own (RFC 4193): `fd`, 40 bits made from `host_id`, cut into /64s. The same id makes the
    /// same pool again.
    pub fn unique_local(host_id: &str) -> AddressPool {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in host_id.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let global = u128::from(hash ^ (hash >> 24)) & 0xff_ffff_ffff;
        let prefix = Ipv6Addr::from((0xfd_u128 << 120) | (global << 80));
        AddressPool { base: Ipv6Net::new_assert(prefix, 48).into(), size: 64 }
    }

    /// The pools in force: the configured ones, and the default ones of a family that none is configured of.
    pub fn in_force(configured: &[AddressPool], host_id: &str) -> Vec<AddressPool> {
        let mut pools = configured.to_vec();
        if !pools.iter().any(AddressPool::is_ipv4) {
            pools.extend(AddressPool::defaults());
        }
        if pools.iter().all(AddressPool::is_ipv4) {
            pools.push(AddressPool::unique_local(host_id));
        }
        pools
    }

    /// Whether its subnets are IPv4 ones.
    pub fn is_ipv4(&self) -> bool {
        self.base.addr().is_ipv4()
    }

    /// The first subnet clear of `used`.
    fn first_free(&self, used: &Used) -> Option<IpNet> {
        let (base, end) = ends(self.base);
        let step = 1_u128.checked_shl(u32::from(self.base.max_prefix_len() - self.size)).unwrap_or(0);
        let mut candidate = base;
        loop {
            let last = candidate.checked_add(step.checked_sub(1)?)?;
            if last > end {
                return None;
            }
            let Some(taken) = used.last_within(self.is_ipv4(), candidate, last) else {
                return self.subnet(candidate);
            };
            // The next one behind what is in the way.
            let behind = taken.checked_add(1)?.checked_sub(base)?;
            candidate = base.checked_add(behind.div_ceil(step).checked_mul(step)?)?;
        }
    }

    fn subnet(&self, network: u128) -> Option<IpNet> {
        let address: IpAddr = match self.base {
            IpNet::V4(_) => Ipv4Addr::from(u32::try_from(network).ok()?).into(),
            IpNet::V6(_) => Ipv6Addr::from(network).into(),
        };
        IpNet::new(address, self.size).ok()
    }
}

/// The first subnet of a family in `pools` that is clear of `used`.
pub(crate) fn first_free(
    pools: &[AddressPool],
    ipv4: bool,
    used: impl IntoIterator<Item = IpNet>,
) -> Result<IpNet, NetError> {
    let used = Used::new(used);
    let mut fitting = pools.iter().filter(|pool| pool.is_ipv4() == ipv4);
    fitting.find_map(|pool| pool.first_free(&used)).ok_or(NetError::SubnetsExhausted)
}

/// Addresses in use, as ranges that do not overlap: last addresses by first ones, for each family.
struct Used {
    v4: BTreeMap<u128, u128>,
    v6: BTreeMap<u128, u128>,
}

impl Used {
    fn new(nets: impl IntoIterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            let (list, shortest) = if net.addr().is_ipv4() { (&mut v4, SHORTEST.0) } else { (&mut v6, SHORTEST.1) };
            if net.prefix_len() >= shortest {
                list.push(ends(net));
            }
        }
        Used { v4: merged(v4), v6: merged(v6) }
    }

    /// The end of the last range that has a part between two addresses.
    fn last_within(&self, ipv4: bool, first: u128, last: u128) -> Option<u128> {
        let ranges = if ipv4 { &self.v4 } else { &self.v6 };
        ranges.range(..=last).next_back().map(|(_, end)| *end).filter(|end| *end >= first)
    }
}

fn merged(mut ranges: Vec<(u128, u128)>) -> BTreeMap<u128, u128> {
    ranges.sort_unstable();
    let mut merged = BTreeMap::<u128, u128>::new();
    for (first, last) in ranges {
        match merged.last_entry() {
            Some(mut before) if *before.get() >= first => {
                let end = last.max(*before.get());
                before.insert(end);
            }
            _ => drop(merged.insert(first, last)),
        }
    }
    merged
}

/// First and last address of a subnet.
fn ends(net: IpNet) -> (u128, u128) {
    match net {
        IpNet::V4(net) => (u32::from(net.network()).into(), u32::from(net.broadcast()).into()),
        IpNet::V6(net) => (net.network().into(), net.broadcast().into()),
    }
}

/// Whether two subnets share addresses.
pub(crate) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The host's name servers: a network on top of them would cut the host off from them.
pub(crate) fn name_servers() -> Vec<IpNet> {
    let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.trim_start().strip_prefix("nameserver"));
    servers.filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok()).map(IpNet::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn first(pools: &[AddressPool], ipv4: bool, used: &[&str]) -> Option<String> {
        first_free(pools, ipv4, used.iter().map(|text| net(text))).ok().map(|net| net.to_string())
    }

    #[test]
    fn used_subnets_are_stepped_over() {
        let free = |used: &[&str]| first(&AddressPool::defaults(), true, used);
        assert_eq!(free(&[]).as_deref(), Some("172.17.0.0/16"));
        assert_eq!(free(&["172.17.5.0/24", "0.0.0.0/0"]).as_deref(), Some("172.18.0.0/16"));
        assert_eq!(free(&["172.16.0.0/12", "192.168.0.1/24"]).as_deref(), Some("192.168.16.0/20"));
        assert_eq!(free(&["172.16.0.0/12", "192.168.0.0/16"]), None);
        assert_eq!(free(&["0.0.0.0/1", "128.0.0.0/1"]).as_deref(), Some("172.17.0.0/16"), "a VPN's default routes");
        assert_eq!(free(&["172.17.0.0/16", "172.18.3.4/32"]).as_deref(), Some("172.19.0.0/16"));
    }

    #[test]
    fn pools_are_used_in_their_order_and_up_to_their_ends() {
        let pools =
            [AddressPool::new(net("10.0.0.0/23"), 24).unwrap(), AddressPool::new(net("10.9.0.0/30"), 30).unwrap()];
        let mut used = Vec::new();
        while let Ok(free) = first_free(&pools, true, used.iter().copied()) {
            used.push(free);
        }
        assert_eq!(
            used.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.0/24", "10.0.1.0/24", "10.9.0.0/30"]
        );
        assert_eq!(first(&pools, false, &[]), None);
        let edge = [AddressPool::new(net("255.255.255.0/24"), 25).unwrap()];
        assert_eq!(first(&edge, true, &["255.255.255.0/25"]).as_deref(), Some("255.255.255.128/25"));
        assert_eq!(first(&edge, true, &["255.255.255.0/24"]), None);
        assert!(AddressPool::new(net("10.0.0.0/16"), 8).is_none());
    }

    #[test]
    fn a_host_has_a_pool_of_its_own() {
        let pools = AddressPool::in_force(&[], "host");
        let subnet = first(&pools, false, &[]).unwrap();
        assert!(subnet.starts_with("fd") && subnet.ends_with("::/64"), "{subnet}");
        assert_eq!(first(&AddressPool::in_force(&[], "host"), false, &[]), Some(subnet.clone()));
        assert_ne!(first(&AddressPool::in_force(&[], "other"), false, &[]), Some(subnet.clone()));
        assert_ne!(first(&pools, false, &[&subnet]), Some(subnet));
        let whole = [AddressPool::new(net("::/0"), 0).unwrap()];
        assert_eq!(first(&whole, false, &[]), None, "no panic at the edge");
    }
}

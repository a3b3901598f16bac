//! `--subnet`, `--ip-range`, `--gateway` and `--aux-address`: lists that are made pools by what lies in what.

use std::collections::BTreeMap;
use std::net::IpAddr;

use skep_wire::IpamPool;

/// The pools of a new network. A subnet that can't be read is left to the daemon to complain about.
pub(super) fn pools(
    subnets: &[String],
    ranges: &[String],
    gateways: &[String],
    auxiliary: &BTreeMap<String, String>,
) -> Result<Vec<IpamPool>, String> {
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut pools: Vec<IpamPool> = Vec::new();
    for subnet in subnets {
        for other in &pools {
            if overlaps(&other.subnet, subnet) {
                return Err("multiple overlapping subnet configuration is not supported".to_owned());
            }
        }
        pools.push(IpamPool { subnet: subnet.clone(), ..IpamPool::default() });
    }
    for range in ranges {
        let address = range.split('/').next().unwrap_or_default();
        let pool = pool_of(&mut pools, address).ok_or_else(|| format!("no matching subnet for range {range}"))?;
        if !pool.ip_range.is_empty() {
            return Err(format!(
                "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                pool.ip_range, pool.subnet
            ));
        }
        pool.ip_range.clone_from(range);
    }
    for gateway in gateways {
        let pool = pool_of(&mut pools, gateway).ok_or_else(|| format!("no matching subnet for gateway {gateway}"))?;
        if !pool.gateway.is_empty() {
            return Err(format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                pool.gateway, pool.subnet
            ));
        }
        pool.gateway.clone_from(gateway);
    }
    for (name, address) in auxiliary {
        let pool =
            pool_of(&mut pools, address).ok_or_else(|| format!("no matching subnet for aux-address {address}"))?;
        pool.auxiliary_addresses.insert(name.clone(), address.clone());
    }
    Ok(pools)
}

fn pool_of<'a>(pools: &'a mut [IpamPool], address: &str) -> Option<&'a mut IpamPool> {
    let address: IpAddr = address.parse().ok()?;
    pools.iter_mut().find(|pool| block(&pool.subnet).is_some_and(|block| block.contains(address)))
}

fn overlaps(one: &str, other: &str) -> bool {
    let (Some(one), Some(other)) = (block(one), block(other)) else { return false };
    one.contains(other.address) || other.contains(one.address)
}

/// An address and how many of its first bits count.
struct Block {
    address: IpAddr,
    prefix: u32,
}

fn block(text: &str) -> Option<Block> {
    let (address, prefix) = text.split_once('/')?;
    let (address, prefix) = (address.parse::<IpAddr>().ok()?, prefix.parse::<u32>().ok()?);
    (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some(Block { address, prefix })
}

impl Block {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differ = u32::from(own) ^ u32::from(other);
                differ.checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differ = u128::from(own) ^ u128::from(other);
                differ.checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(
        subnets: &[&str],
        ranges: &[&str],
        gateways: &[&str],
        auxiliary: &[(&str, &str)],
    ) -> Result<String, String> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let auxiliary = auxiliary.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let pools = pools(&words(subnets), &words(ranges), &words(gateways), &auxiliary)?;
        let text = |pool: &IpamPool| {
            let auxiliary: Vec<_> = pool.auxiliary_addresses.values().cloned().collect();
            format!("{} {} {} {}", pool.subnet, pool.ip_range, pool.gateway, auxiliary.join(",")).trim().to_owned()
        };
        Ok(pools.iter().map(text).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn what_lies_in_a_subnet_belongs_to_it() {
        let subnets = ["10.1.0.0/24", "fd00::/64"];
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(made(&[], &[], &[], &[]), ok(""));
        assert_eq!(
            made(&subnets, &["10.1.0.128/25"], &["fd00::9", "10.1.0.9"], &[("a", "fd00::5")]),
            ok("10.1.0.0/24 10.1.0.128/25 10.1.0.9; fd00::/64  fd00::9 fd00::5")
        );
        assert_eq!(made(&["0.0.0.0/0"], &[], &["9.9.9.9"], &[]), ok("0.0.0.0/0  9.9.9.9"));
    }

    #[test]
    fn what_lies_nowhere_is_refused() {
        let subnet = ["10.1.0.0/24"];
        let no = |text: &str| Err(text.to_owned());
        assert_eq!(
            made(&[], &[], &["10.1.0.1"], &[]),
            no("every ip-range or gateway must have a corresponding subnet")
        );
        assert_eq!(made(&subnet, &["10.2.0.0/25"], &[], &[]), no("no matching subnet for range 10.2.0.0/25"));
        assert_eq!(made(&subnet, &[], &["10.2.0.1"], &[]), no("no matching subnet for gateway 10.2.0.1"));
        assert_eq!(made(&subnet, &[], &[], &[("a", "10.2.0.1")]), no("no matching subnet for aux-address 10.2.0.1"));
        assert_eq!(
            made(&["10.1.0.0/24", "10.1.0.0/16"], &[], &[], &[]),
            no("multiple overlapping subnet configuration is not supported")
        );
        assert_eq!(
            made(&["10.1.0.0/24", "10.2.0.0/24"], &[], &["10.1.0.1", "10.1.0.2"], &[]),
            no("cannot configure multiple gateways (10.1.0.2, 10.1.0.1) for the same subnet (10.1.0.0/24)")
        );
    }
}

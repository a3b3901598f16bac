//! The addresses of a new network: subnets, and the ranges, gateways and reserved addresses that belong to each.
//!
//! On the command line they are separate lists; whatever lies in a subnet belongs to it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use skep_wire::IpamPool;

/// What the flags say.
pub(super) struct Asked<'a> {
    pub(super) subnets: &'a [String],
    pub(super) ranges: &'a [String],
    pub(super) gateways: &'a [String],
    pub(super) reserved: &'a BTreeMap<String, String>,
}

/// A pool for each subnet, in the order given.
pub(super) fn pools(asked: &Asked<'_>) -> Result<Vec<IpamPool>, String> {
    if asked.subnets.len() < asked.ranges.len() || asked.subnets.len() < asked.gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut pools = without_overlap(asked.subnets)?;
    for range in asked.ranges {
        block(range)?;
        for pool in matching(&mut pools, range)?.ok_or_else(|| format!("no matching subnet for range {range}"))? {
            if !pool.ip_range.is_empty() {
                return Err(format!(
                    "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                    pool.ip_range, pool.subnet
                ));
            }
            range.clone_into(&mut pool.ip_range);
        }
    }
    for gateway in asked.gateways {
        let found = matching(&mut pools, gateway)?;
        for pool in found.ok_or_else(|| format!("no matching subnet for gateway {gateway}"))? {
            if !pool.gateway.is_empty() {
                return Err(format!(
                    "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                    pool.gateway, pool.subnet
                ));
            }
            gateway.clone_into(&mut pool.gateway);
        }
    }
    for (name, address) in asked.reserved {
        let found = matching(&mut pools, address)?;
        for pool in found.ok_or_else(|| format!("no matching subnet for aux-address {address}"))? {
            pool.auxiliary_addresses.insert(name.clone(), address.clone());
        }
    }
    Ok(pools)
}

fn without_overlap(subnets: &[String]) -> Result<Vec<IpamPool>, String> {
    let mut pools: Vec<IpamPool> = Vec::new();
    for subnet in subnets {
        for pool in &pools {
            if lies_in(&pool.subnet, subnet)? || lies_in(subnet, &pool.subnet)? {
                return Err("multiple overlapping subnet configuration is not supported".to_owned());
            }
        }
        pools.push(IpamPool { subnet: subnet.clone(), ..IpamPool::default() });
    }
    Ok(pools)
}

/// The pools that `text` lies in; None if it lies in none.
fn matching<'p>(pools: &'p mut [IpamPool], text: &str) -> Result<Option<Vec<&'p mut IpamPool>>, String> {
    let mut found = Vec::new();
    for pool in pools {
        if lies_in(text, &pool.subnet)? {
            found.push(pool);
        }
    }
    Ok((!found.is_empty()).then_some(found))
}

/// Whether an address, or the address of a block, lies in a subnet. What is no address lies nowhere.
fn lies_in(text: &str, subnet: &str) -> Result<bool, String> {
    let subnet = block(subnet).map_err(|reason| format!("invalid subnet: {reason}"))?;
    let address = match text.contains('/') {
        true => Some(block(text)?.addr()),
        false => text.parse::<IpAddr>().ok(),
    };
    Ok(address.is_some_and(|address| subnet.contains(&address.to_canonical())))
}

fn block(text: &str) -> Result<IpNet, String> {
    text.parse().map_err(|_| format!("invalid CIDR address: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(subnets: &str, ranges: &str, gateways: &str, reserved: &str) -> Result<Vec<IpamPool>, String> {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let reserved: BTreeMap<_, _> =
            list(reserved).iter().filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
        let (subnets, ranges, gateways) = (list(subnets), list(ranges), list(gateways));
        pools(&Asked { subnets: &subnets, ranges: &ranges, gateways: &gateways, reserved: &reserved })
    }

    #[test]
    fn everything_finds_its_subnet() {
        let pools = read("fd00::/64 10.1.0.0/24", "10.1.0.128/25", "10.1.0.9 fd00::9", "a=10.1.0.7").expect("good");
        let [v6, v4] = pools.as_slice() else { panic!("{pools:?}") };
        assert_eq!((v6.gateway.as_str(), v6.ip_range.as_str()), ("fd00::9", ""));
        assert_eq!((v4.gateway.as_str(), v4.ip_range.as_str()), ("10.1.0.9", "10.1.0.128/25"));
        assert_eq!(v4.auxiliary_addresses["a"], "10.1.0.7");
        assert_eq!(read("", "", "", "").expect("good"), []);
    }

    #[test]
    fn what_fits_no_subnet_is_refused_in_dockers_words() {
        for (flags, error) in [
            (["", "", "10.0.0.1", ""], "every ip-range or gateway must have a corresponding subnet"),
            (["x 10.0.0.0/8", "", "", ""], "invalid subnet: invalid CIDR address: x"),
            (["10.0.0.0/8 10.1.0.0/16", "", "", ""], "multiple overlapping subnet configuration is not supported"),
            (["10.0.0.0/24", "10.0.1.0/25", "", ""], "no matching subnet for range 10.0.1.0/25"),
            (["10.0.0.0/24", "10.0.0.0/x", "", ""], "invalid CIDR address: 10.0.0.0/x"),
            (["10.0.0.0/24", "", "x", ""], "no matching subnet for gateway x"),
            (["10.0.0.0/24", "", "", "a=10.9.0.1"], "no matching subnet for aux-address 10.9.0.1"),
            (
                ["10.0.0.0/24 10.1.0.0/24", "", "10.0.0.1 10.0.0.2", ""],
                "cannot configure multiple gateways (10.0.0.2, 10.0.0.1) for the same subnet (10.0.0.0/24)",
            ),
            (
                ["10.0.0.0/24 10.1.0.0/24", "10.0.0.0/26 10.0.0.64/26", "", ""],
                "cannot configure multiple ranges (10.0.0.64/26, 10.0.0.0/26) on the same subnet (10.0.0.0/24)",
            ),
        ] {
            let [subnets, ranges, gateways, reserved] = flags;
            assert_eq!(read(subnets, ranges, gateways, reserved), Err(error.to_owned()), "{flags:?}");
        }
    }
}

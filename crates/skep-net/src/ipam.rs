//! Which addresses of a network are taken. Always the lowest free one is given, as Docker does.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::NetError;
use crate::network::Subnet;

/// The addresses of one subnet.
#[derive(Debug)]
pub(crate) struct Pool {
    subnet: IpNet,
    /// First and last address to draw from.
    range: (u128, u128),
    taken: BTreeSet<u128>,
}

impl Pool {
    /// All of the subnet but its own address, its broadcast address, the gateway and what is reserved.
    pub(crate) fn of(config: &Subnet) -> Self {
        let subnet = config.subnet;
        let drawn = config.range.unwrap_or(subnet);
        let mut taken = BTreeSet::from([number(subnet.network()), number(config.gateway_address())]);
        if subnet.addr().is_ipv4() {
            taken.insert(number(subnet.broadcast()));
        }
        taken.extend(config.reserved.values().map(|address| number(*address)));
        Pool { subnet, range: (number(drawn.network()), number(drawn.broadcast())), taken }
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.subnet.contains(&address)
    }

    /// Takes the wished address, or the lowest free one.
    pub(crate) fn allocate(&mut self, wish: Option<IpAddr>) -> Result<IpAddr, NetError> {
        if let Some(address) = wish {
            if !self.subnet.contains(&address) {
                return Err(NetError::AddressOutside { address, subnet: self.subnet.to_string() });
            }
            return if self.taken.insert(number(address)) { Ok(address) } else { Err(NetError::AddressInUse(address)) };
        }
        let (first, last) = self.range;
        let mut free = first;
        for taken in self.taken.range(first..=last) {
            if *taken != free {
                break;
            }
            free += 1;
        }
        if free > last {
            let family = if self.subnet.addr().is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(NetError::AddressesExhausted { family, pools: self.subnet.to_string() });
        }
        self.taken.insert(free);
        Ok(self.address(free))
    }

    /// Gives an address back.
    pub(crate) fn release(&mut self, address: IpAddr) {
        self.taken.remove(&number(address));
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.subnet {
            IpNet::V4(_) => Ipv4Addr::from(u32::try_from(number).expect("drawn from an IPv4 subnet")).into(),
            IpNet::V6(_) => Ipv6Addr::from(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(subnet: &str, range: Option<&str>, gateway: &str) -> Pool {
        let mut config = Subnet::new(subnet.parse::<IpNet>().unwrap());
        config.range = range.map(|r| r.parse().unwrap());
        config.gateway = gateway.parse().ok();
        config.reserved.insert("router".to_owned(), config.subnet.hosts().nth(8).unwrap_or(config.subnet.addr()));
        Pool::of(&config)
    }

    fn next(pool: &mut Pool) -> String {
        pool.allocate(None).map_or_else(|e| e.to_string(), |a| a.to_string())
    }

    #[test]
    fn the_lowest_free_address_is_given() {
        let mut p = pool("172.17.0.0/16", None, "172.17.0.1");
        assert_eq!([next(&mut p), next(&mut p)], ["172.17.0.2", "172.17.0.3"]);
        p.release("172.17.0.2".parse().unwrap());
        assert_eq!([next(&mut p), next(&mut p)], ["172.17.0.2", "172.17.0.4"]);
    }

    #[test]
    fn a_full_subnet_and_wrong_wishes_are_refused() {
        let mut p = pool("10.0.0.0/30", None, "10.0.0.1");
        assert!(matches!(p.allocate(Some("10.0.0.3".parse().unwrap())), Err(NetError::AddressInUse(_))));
        assert_eq!(next(&mut p), "10.0.0.2");
        assert!(matches!(p.allocate(None), Err(NetError::AddressesExhausted { .. })));
        assert!(matches!(p.allocate(Some("10.0.1.2".parse().unwrap())), Err(NetError::AddressOutside { .. })));
    }

    #[test]
    fn a_range_limits_what_is_drawn_but_not_what_is_wished() {
        let mut p = pool("10.0.0.0/24", Some("10.0.0.128/30"), "10.0.0.1");
        assert!(p.allocate(Some("10.0.0.7".parse().unwrap())).is_ok());
        assert_eq!([next(&mut p), next(&mut p)], ["10.0.0.128", "10.0.0.129"]);
    }

    #[test]
    fn ipv6_subnets_work_alike() {
        let mut p = pool("fd00:1::/64", None, "fd00:1::1");
        assert_eq!(next(&mut p), "fd00:1::2");
    }
}

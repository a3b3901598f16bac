//! Subnets for networks that were not given one.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

/// Docker's pools: 172.17.0.0/16 to 172.31.0.0/16, then the /20s of 192.168.0.0/16.
fn candidates() -> impl Iterator<Item = Ipv4Net> {
    let large = (17..=31).filter_map(|n| Ipv4Net::new(Ipv4Addr::new(172, n, 0, 0), 16).ok());
    let small = (0..=15).filter_map(|n| Ipv4Net::new(Ipv4Addr::new(192, 168, n * 16, 0), 20).ok());
    large.chain(small)
}

/// The first candidate that overlaps none of `used`.
pub(crate) fn first_free(used: &[Ipv4Net]) -> Option<Ipv4Net> {
    candidates().find(|candidate| !used.iter().any(|net| overlap(*candidate, *net)))
}

/// Whether two subnets share addresses. A default route shares nothing.
pub(crate) fn overlap(a: impl Into<IpNet>, b: impl Into<IpNet>) -> bool {
    let (a, b) = (a.into(), b.into());
    a.prefix_len() != 0 && b.prefix_len() != 0 && (a.contains(&b.network()) || b.contains(&a.network()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_subnets_are_stepped_over() {
        let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
        assert_eq!(first_free(&[]), Some(net("172.17.0.0/16")));
        assert_eq!(first_free(&[net("172.17.5.0/24"), net("0.0.0.0/0")]), Some(net("172.18.0.0/16")));
        assert_eq!(first_free(&[net("172.16.0.0/12"), net("192.168.0.1/24")]), Some(net("192.168.16.0/20")));
        assert_eq!(first_free(&[net("172.16.0.0/12"), net("192.168.0.0/16")]), None);
    }
}

//! What a new network asks for: its name, its kind and its addresses, checked in Docker's words.

use std::net::IpAddr;

use ipnet::IpNet;
use skep_net::Subnet;

use crate::model::network::{CreateNetwork, Ipam, IpamPool};
use crate::{Error, Result};

/// What a network is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    Bridge,
    Macvlan,
    Ipvlan,
}

/// Refuses names that are taken for good and kinds that there are not.
pub(super) fn kind(request: &CreateNetwork) -> Result<Driver> {
    let name = request.name.as_str();
    if name.trim().is_empty() {
        return Err(Error::Invalid("invalid name: name is empty".to_owned()));
    }
    if matches!(name, "bridge" | "host" | "none" | "default") {
        return Err(Error::Forbidden(format!("operation is not permitted on predefined {name} network")));
    }
    if request.ingress {
        return Err(Error::Invalid("Ingress network can only be global scope network".to_owned()));
    }
    match request.scope.as_str() {
        "" | "local" => {}
        "swarm" => {
            return Err(Error::Forbidden("cannot create a swarm scoped network when swarm is not active".to_owned()));
        }
        other => return Err(Error::Invalid(format!("invalid scope {other}: there is only \"local\" without a swarm"))),
    }
    match request.driver.as_str() {
        "" | "bridge" => Ok(Driver::Bridge),
        "macvlan" => Ok(Driver::Macvlan),
        "ipvlan" => Ok(Driver::Ipvlan),
        only @ ("host" | "null") => {
            Err(Error::Forbidden(format!("only one instance of \"{only}\" network is allowed")))
        }
        "overlay" => Err(Error::Unavailable(
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm \
             and try again."
                .to_owned(),
        )),
        other => Err(Error::NoSuchPlugin(other.to_owned())),
    }
}

/// Networks that only hold settings, and those that take theirs from one.
pub(super) fn references(request: &CreateNetwork) -> Result<()> {
    let forbidden = |text: &str| Err(Error::Forbidden(text.to_owned()));
    if request.config_only {
        if request.config_from.is_some() {
            return forbidden("a configuration network cannot depend on another configuration network");
        }
        if request.internal || request.attachable || request.ingress || !request.scope.is_empty() {
            return forbidden(
                "configuration network can only contain network specific fields. Network operator fields like [ ingress | \
                 internal | attachable | scope ] are not supported.",
            );
        }
    }
    let own = !request.ipam.pools.is_empty()
        || !request.ipam.options.is_empty()
        || !request.options.is_empty()
        || !request.labels.is_empty();
    if request.config_from.is_some() && own {
        return forbidden(
            "user specified configurations are not supported if the network depends on a configuration network",
        );
    }
    Ok(())
}

/// The address management that is asked for: whether there is any.
pub(super) fn ipam_driver(ipam: &Ipam) -> Result<bool> {
    match ipam.driver.as_str() {
        "" | "default" => Ok(true),
        "null" => Ok(false),
        other => Err(Error::NoSuchPlugin(other.to_owned())),
    }
}

/// The pools as subnets; all that is wrong with them at once.
pub(super) fn subnets(ipam: &Ipam) -> Result<Vec<Subnet>> {
    let mut problems = Vec::new();
    let mut subnets = Vec::new();
    for pool in ipam.pools.iter().filter(|pool| **pool != IpamPool::default()) {
        match subnet(pool, &mut problems) {
            Some(subnet) => subnets.push(subnet),
            None if problems.is_empty() => {
                problems.push("every ip-range or gateway must have a corresponding subnet".to_owned());
            }
            None => {}
        }
    }
    match problems.as_slice() {
        [] => Ok(subnets),
        problems => Err(Error::Invalid(format!("invalid network config:\n{}", super::words::list(problems)))),
    }
}

fn subnet(pool: &IpamPool, problems: &mut Vec<String>) -> Option<Subnet> {
    if pool.subnet.is_empty() {
        return None;
    }
    let net = block("subnet", &pool.subnet, problems)?;
    let mut subnet = Subnet::new(net);
    if !pool.range.is_empty()
        && let Some(range) = block("ip-range", &pool.range, problems)
    {
        if range.prefix_len() < net.prefix_len() {
            problems.push(format!("invalid ip-range {range}: CIDR block is bigger than its parent subnet {net}"));
        } else if !net.contains(&range) {
            problems.push(format!("invalid ip-range {range}: parent subnet {net} doesn't contain ip-range"));
        }
        subnet.range = Some(range);
    }
    let mut within = |what: &str, text: &str| match text.parse::<IpAddr>() {
        Err(_) => {
            problems.push(format!("invalid {what} {text}: invalid address"));
            None
        }
        Ok(address) if !net.contains(&address) => {
            problems.push(format!("invalid {what} {text}: parent subnet {net} doesn't contain this address"));
            None
        }
        Ok(address) => Some(address),
    };
    if !pool.gateway.is_empty() {
        subnet.gateway = within("gateway", &pool.gateway);
    }
    for (name, text) in &pool.auxiliary {
        if let Some(address) = within("auxiliary address", text) {
            subnet.reserved.insert(name.clone(), address);
        }
    }
    Some(subnet)
}

/// A block without host bits.
fn block(what: &str, text: &str, problems: &mut Vec<String>) -> Option<IpNet> {
    match text.parse::<IpNet>() {
        Err(_) => problems.push(format!("invalid {what} {text}: invalid CIDR block notation")),
        Ok(net) if net.addr() != net.network() => {
            problems.push(format!("invalid {what} {text}: it should be {}", net.trunc()));
        }
        Ok(net) => return Some(net),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools(pools: &[(&str, &str, &str)]) -> String {
        let pools = pools.iter().map(|(subnet, range, gateway)| IpamPool {
            subnet: (*subnet).to_owned(),
            range: (*range).to_owned(),
            gateway: (*gateway).to_owned(),
            ..IpamPool::default()
        });
        match subnets(&Ipam { pools: pools.collect(), ..Ipam::default() }) {
            Ok(found) => found.iter().map(|one| format!("{} {}", one.subnet, one.gateway_address())).collect(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn addresses_that_cannot_be_get_dockers_words() {
        assert_eq!(pools(&[("10.1.0.0/24", "", "")]), "10.1.0.0/24 10.1.0.1");
        assert_eq!(pools(&[("10.1.0.0/24", "10.1.0.128/25", "10.1.0.254")]), "10.1.0.0/24 10.1.0.254");
        let invalid = |text: &str| format!("invalid network config:\n{text}");
        assert_eq!(pools(&[("x", "", "")]), invalid("invalid subnet x: invalid CIDR block notation"));
        assert_eq!(
            pools(&[("10.51.0.1/24", "", "")]),
            invalid("invalid subnet 10.51.0.1/24: it should be 10.51.0.0/24")
        );
        assert_eq!(
            pools(&[("10.1.0.0/24", "10.0.0.0/8", "")]),
            invalid("invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.1.0.0/24")
        );
        assert_eq!(
            pools(&[("10.1.0.0/24", "10.2.0.0/25", "10.9.0.1")]),
            invalid(
                "* invalid ip-range 10.2.0.0/25: parent subnet 10.1.0.0/24 doesn't contain ip-range\n\
                 * invalid gateway 10.9.0.1: parent subnet 10.1.0.0/24 doesn't contain this address"
            )
        );
        assert_eq!(
            pools(&[("", "", "10.9.0.1")]),
            invalid("every ip-range or gateway must have a corresponding subnet")
        );
    }

    #[test]
    fn names_and_kinds() {
        let kind = |name: &str, driver: &str| {
            let request =
                CreateNetwork { name: name.to_owned(), driver: driver.to_owned(), ..CreateNetwork::default() };
            kind(&request).map_err(|error| error.to_string())
        };
        assert_eq!(kind("a", ""), Ok(Driver::Bridge));
        assert_eq!(kind("a", "ipvlan"), Ok(Driver::Ipvlan));
        assert_eq!(kind(" ", ""), Err("invalid name: name is empty".to_owned()));
        assert_eq!(kind("none", ""), Err("operation is not permitted on predefined none network".to_owned()));
        assert_eq!(kind("a", "host"), Err("only one instance of \"host\" network is allowed".to_owned()));
        assert_eq!(kind("a", "foo"), Err("plugin \"foo\" not found".to_owned()));
    }
}

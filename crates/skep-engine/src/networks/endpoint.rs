//! What a container asks of one network: checked before anything is made, in Docker's words; and the names it gets there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use skep_net::MacAddr;
use skep_types::{ContainerId, ContainerName};

use super::{StoredNetwork, rate, words};
use crate::model::network::EndpointSettings;
use crate::{Error, Result};

const IFNAME: &str = "com.docker.network.endpoint.ifname";
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
/// Bytes of an interface's name that the kernel takes.
const IFNAME_MAX: usize = 15;

/// Where the request comes from, which its error tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    Create,
    Connect,
}

/// Refuses settings that the network can't fulfil; all that is wrong at once.
pub(crate) fn check(network: &StoredNetwork, settings: &EndpointSettings, context: Context) -> Result<()> {
    let mut problems = addresses(network, settings);
    if network.is_predefined() && !settings.aliases.is_empty() {
        problems.push("network-scoped alias is supported only for containers in user defined networks".to_owned());
    }
    if let Some(text) = settings.mac_address.as_deref().filter(|text| !text.is_empty()) {
        match text.parse::<MacAddr>() {
            Err(error) => problems.push(error.to_string()),
            Ok(mac) if mac.0[0] & 1 == 1 => {
                problems.push(format!("invalid MAC address: {text} is that of a group of interfaces"));
            }
            Ok(_) => {}
        }
    }
    if let Some(name) = ifname(&settings.driver_options) {
        problems.extend(bad_ifname(name));
    }
    if let Err(problem) = sysctls(&settings.driver_options) {
        problems.push(problem);
    }
    problems.extend(rate::named(&settings.driver_options).err());
    if problems.is_empty() {
        return Ok(());
    }
    let text = format!("invalid endpoint settings:\n{}", words::list(&problems));
    Err(Error::Invalid(match context {
        Context::Create => format!("invalid config for network {}: {text}", network.name),
        Context::Connect => text,
    }))
}

fn addresses(network: &StoredNetwork, settings: &EndpointSettings) -> Vec<String> {
    let wishes: Vec<IpAddr> = settings
        .ipv4_address
        .map(IpAddr::V4)
        .into_iter()
        .chain(settings.ipv6_address.map(IpAddr::V6))
        .filter(|address| !address.is_unspecified())
        .collect();
    let mut problems = Vec::new();
    if network.is_predefined() && !wishes.is_empty() {
        problems.push("user specified IP address is supported on user defined networks only".to_owned());
        return problems;
    }
    for address in wishes {
        let given = network.settings.ipam.pools.iter().filter_map(|pool| pool.subnet.parse::<IpNet>().ok());
        let mut given = given.filter(|net| net.addr().is_ipv4() == address.is_ipv4()).peekable();
        if given.peek().is_none() {
            problems.push(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
                    .to_owned(),
            );
        } else if !given.any(|net| net.contains(&address)) {
            problems.push(format!("no configured subnet or ip-range contain the IP address {address}"));
        }
    }
    problems
}

/// The name that the interface is to have in the container, if it is said.
pub(super) fn ifname(options: &BTreeMap<String, String>) -> Option<&str> {
    options.get(IFNAME).map(String::as_str).filter(|name| !name.is_empty())
}

fn bad_ifname(name: &str) -> Option<String> {
    let odd = name == "lo" || name == "." || name == ".." || name.contains(['/', ':']);
    (odd || name.len() > IFNAME_MAX || name.contains(char::is_whitespace))
        .then(|| format!("invalid interface name {name:?}: want 1 to {IFNAME_MAX} bytes without '/', ':' and spaces"))
}

/// Kernel settings of the interface: `net.ipv4.conf.IFNAME.log_martians=1,...`, as name and value.
pub(super) fn sysctls(options: &BTreeMap<String, String>) -> std::result::Result<Vec<(String, String)>, String> {
    let Some(text) = options.get(SYSCTLS) else { return Ok(Vec::new()) };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(sysctl).collect()
}

fn sysctl(text: &str) -> std::result::Result<(String, String), String> {
    let bad = || {
        format!(
            "unrecognised network interface sysctl '{text}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be \
             'ipv4', 'ipv6' or 'mpls'"
        )
    };
    let (name, value) = text.split_once('=').ok_or_else(bad)?;
    match name.split('.').collect::<Vec<_>>().as_slice() {
        // Docker's client makes the values of `--network ...,driver-opt=` small letters.
        ["net", family @ ("ipv4" | "ipv6" | "mpls"), table, "IFNAME" | "ifname", setting]
            if !table.is_empty() && !setting.is_empty() && !name.contains('/') =>
        {
            Ok((format!("net.{family}.{table}.IFNAME.{setting}"), value.to_owned()))
        }
        _ => Err(bad()),
    }
}

/// The names that others find a container by: none in the networks that are always there.
pub(crate) fn names(
    network: &str,
    container: &ContainerName,
    id: ContainerId,
    hostname: &str,
    aliases: &[String],
) -> Vec<String> {
    if crate::model::network::is_predefined(network) {
        return Vec::new();
    }
    let mut names: Vec<String> = vec![container.to_string()];
    let more = aliases.iter().cloned().chain([id.short(), hostname.to_owned()]);
    for name in more.filter(|name| !name.is_empty()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network::IpamPool;

    fn network(name: &str, subnet: &str) -> StoredNetwork {
        let mut network = StoredNetwork::predefined(name, None);
        if !subnet.is_empty() {
            network.settings.ipam.pools = vec![IpamPool { subnet: subnet.to_owned(), ..IpamPool::default() }];
        }
        network
    }

    fn said(network: &StoredNetwork, settings: EndpointSettings) -> String {
        check(network, &settings, Context::Connect).map_or_else(|error| error.to_string(), |()| String::new())
    }

    fn at(address: &str) -> EndpointSettings {
        EndpointSettings { ipv4_address: address.parse().ok(), ..EndpointSettings::default() }
    }

    fn with(key: &str, value: &str) -> EndpointSettings {
        let driver_options = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        EndpointSettings { driver_options, ..EndpointSettings::default() }
    }

    #[test]
    fn addresses_get_dockers_words() {
        let given = network("a", "10.1.0.0/24");
        assert_eq!(said(&given, at("10.1.0.9")), "");
        let outside = "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.2.0.9";
        assert_eq!(said(&given, at("10.2.0.9")), outside);
        assert_eq!(
            said(&network("a", ""), at("10.2.0.9")),
            "invalid endpoint settings:\nuser specified IP address is supported only when connecting to networks with user \
             configured subnets"
        );
        assert_eq!(
            said(&network("bridge", ""), at("10.2.0.9")),
            "invalid endpoint settings:\nuser specified IP address is supported on user defined networks only"
        );
        let error = check(&given, &at("10.2.0.9"), Context::Create).expect_err("outside");
        assert_eq!(error.to_string(), format!("invalid config for network a: {outside}"));
    }

    #[test]
    fn options_of_interfaces() {
        let a = network("a", "");
        assert_eq!(said(&a, with(IFNAME, "web0")), "");
        assert!(said(&a, with(IFNAME, "a/b")).contains("invalid interface name \"a/b\""));
        assert_eq!(said(&a, with(SYSCTLS, "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.mtu=1400")), "");
        let small = with(SYSCTLS, "net.ipv4.conf.ifname.log_martians=1").driver_options;
        assert_eq!(sysctls(&small), Ok(vec![("net.ipv4.conf.IFNAME.log_martians".to_owned(), "1".to_owned())]));
        assert_eq!(
            said(&a, with(SYSCTLS, "kernel.x=1")),
            "invalid endpoint settings:\nunrecognised network interface sysctl 'kernel.x=1'; represent 'net.X.Y.ethN.Z=V' as \
             'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
        );
        for bad in ["net.ipv4.conf.eth0.x=1", "net.ipv4.conf.IFNAME/../all.x=1", "net.ipv4.IFNAME=1"] {
            assert!(said(&a, with(SYSCTLS, bad)).contains("unrecognised"), "{bad}");
        }
    }

    #[test]
    fn names_in_networks() {
        let container: ContainerName = "web".parse().unwrap();
        let id = ContainerId::from_bytes([0xab; 32]);
        let aliases = ["www".to_owned(), "web".to_owned()];
        assert_eq!(names("net", &container, id, "h", &aliases), ["web", "www", "abababababab", "h"]);
        assert!(names("bridge", &container, id, "h", &aliases).is_empty());
    }
}

//! `--network` and what belongs to it: addresses, aliases, links.

use std::collections::BTreeMap;

use skep_wire::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};

use super::ContainerFlags;
use crate::cli::csv;
use crate::cli::flags::FlagValue;
use crate::cli::value::go_reason;

/// One `--network`: a name, or `name=...,alias=...,ip=...` in the long form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attachment {
    target: String,
    aliases: Vec<String>,
    ipv4: String,
    ipv6: String,
    link_local: Vec<String>,
    mac: String,
    driver_options: BTreeMap<String, String>,
    priority: i64,
}

/// All `--network`.
#[derive(Debug, Default)]
pub(crate) struct Networks(pub(crate) Vec<Attachment>);

impl FlagValue for Networks {
    const TYPE: &'static str = "network";

    fn set(&mut self, text: &str) -> Result<(), String> {
        self.0.push(parse(text)?);
        Ok(())
    }
}

fn parse(text: &str) -> Result<Attachment, String> {
    // `container:name=x` is a name, not a long form: only a known key in front of `=` makes one.
    if !text.contains('=') || text.starts_with("container:") {
        return Ok(Attachment { target: text.to_owned(), ..Attachment::default() });
    }
    let mut network = Attachment::default();
    for field in csv::fields(text)? {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim();
        match key.trim().to_lowercase().as_str() {
            "name" => value.clone_into(&mut network.target),
            "alias" => network.aliases.push(value.to_owned()),
            "ip" => value.clone_into(&mut network.ipv4),
            "ip6" => value.clone_into(&mut network.ipv6),
            "link-local-ip" => network.link_local.push(value.to_owned()),
            "mac-address" => value.clone_into(&mut network.mac),
            "driver-opt" => {
                let pair = value.split_once('=').map(|(name, value)| (name.trim().to_lowercase(), value.trim()));
                let (name, value) = pair
                    .filter(|(name, _)| !name.is_empty())
                    .ok_or_else(|| "invalid key value pair format in driver options".to_owned())?;
                network.driver_options.insert(name, value.to_owned());
            }
            "gw-priority" => {
                network.priority =
                    value.parse().map_err(|error| format!("invalid gw-priority ({value}): {}", go_reason(&error)))?;
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if network.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(network)
}

/// Hexadecimal digits as Go's `net.ParseMAC` reads them: pairs with colons or dashes, or groups of four with dots.
pub(crate) fn check_mac(text: &str) -> Result<(), String> {
    let (separator, digits) = match text.contains('.') {
        true => ('.', 4),
        false => (if text.contains('-') { '-' } else { ':' }, 2),
    };
    let groups: Vec<&str> = text.split(separator).collect();
    let good = matches!(groups.len() * digits / 2, 6 | 8 | 20)
        && groups.iter().all(|group| group.len() == digits && group.bytes().all(|c| c.is_ascii_hexdigit()));
    if good { Ok(()) } else { Err(format!("{text} is not a valid mac address")) }
}

/// The network mode and the endpoints of all networks. The flags that name no network belong to the first.
pub(crate) fn build(flags: &ContainerFlags) -> Result<(String, NetworkingConfig), String> {
    let mut networks: Vec<Attachment> = flags.network.0.iter().chain(&flags.net.0).cloned().collect();
    if networks.is_empty() {
        networks.push(Attachment { target: "default".to_owned(), ..Attachment::default() });
    }
    let aliases: Vec<String> = flags.network_alias.iter().chain(&flags.net_alias).cloned().collect();
    let first = &mut networks[0];
    for (flag, has, given) in [
        ("--network-alias and per-network alias", !first.aliases.is_empty(), !aliases.is_empty()),
        ("--ip and per-network IPv4 address", !first.ipv4.is_empty(), !flags.ip.is_empty()),
        ("--ip6 and per-network IPv6 address", !first.ipv6.is_empty(), !flags.ip6.is_empty()),
        ("--mac-address and per-network MAC address", !first.mac.is_empty(), !flags.mac_address.is_empty()),
        (
            "--link-local-ip and per-network link-local IP addresses",
            !first.link_local.is_empty(),
            !flags.link_local_ip.is_empty(),
        ),
    ] {
        if has && given {
            return Err(format!("conflicting options: cannot specify both {flag}"));
        }
    }
    first.aliases.extend(aliases);
    for (slot, given) in [(&mut first.ipv4, &flags.ip), (&mut first.ipv6, &flags.ip6)] {
        if !given.is_empty() {
            given.clone_into(slot);
        }
    }
    if !flags.mac_address.is_empty() {
        flags.mac_address.clone_into(&mut first.mac);
    }
    first.link_local.extend(flags.link_local_ip.iter().cloned());

    let mode = first.target.clone();
    let (mut user_defined, mut modes) = (false, false);
    let only = networks.len() == 1 && !flags_name_none(flags);
    let mut endpoints = BTreeMap::new();
    for (index, network) in networks.into_iter().enumerate() {
        let own = is_user_defined(&network.target);
        user_defined |= own;
        modes |= !own;
        check(&network, own)?;
        let links = if index == 0 && own { flags.link.0.clone() } else { Vec::new() };
        let name = network.target.clone();
        let settings = endpoint(network, links);
        // A network of which nothing is asked needs no settings: the mode says it all, also to old engines.
        if only && settings == EndpointSettings::default() {
            continue;
        }
        if endpoints.insert(name.clone(), Some(settings)).is_some() {
            return Err(format!("network {name:?} is specified multiple times"));
        }
    }
    if user_defined && modes {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes".to_owned()
        );
    }
    Ok((mode, NetworkingConfig { endpoints_config: endpoints }))
}

/// Whether no flag names a network.
fn flags_name_none(flags: &ContainerFlags) -> bool {
    flags.network.0.is_empty() && flags.net.0.is_empty()
}

fn check(network: &Attachment, user_defined: bool) -> Result<(), String> {
    if network.target.trim().is_empty() {
        return Err("no name set for network".to_owned());
    }
    if !network.aliases.is_empty() && !user_defined {
        return Err("network-scoped aliases are only supported for user-defined networks".to_owned());
    }
    if !network.mac.is_empty() {
        check_mac(&network.mac)?;
    }
    Ok(())
}

/// A network that somebody created, not one of the modes.
fn is_user_defined(target: &str) -> bool {
    !matches!(target, "default" | "bridge" | "host" | "none") && !target.starts_with("container:")
}

fn endpoint(network: Attachment, links: Vec<String>) -> EndpointSettings {
    let has_address = !(network.ipv4.is_empty() && network.ipv6.is_empty() && network.link_local.is_empty());
    EndpointSettings {
        ipam_config: has_address.then_some(EndpointIpamConfig {
            ipv4_address: network.ipv4,
            ipv6_address: network.ipv6,
            link_local_ips: network.link_local,
        }),
        links,
        aliases: network.aliases,
        mac_address: network.mac,
        driver_opts: network.driver_options,
        gw_priority: network.priority,
        ..EndpointSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_form_and_flags_meet_in_the_first_network() {
        let mut flags = ContainerFlags::default();
        flags.network.set("name=back,alias=db,ip=10.0.0.5,driver-opt=a=b").expect("good");
        flags.network.set("front").expect("good");
        flags.mac_address = "02:42:ac:11:00:02".into();
        let (mode, config) = build(&flags).expect("good");
        assert_eq!(mode, "back");
        let back = config.endpoints_config["back"].as_ref().expect("settings");
        assert_eq!(back.aliases, ["db"]);
        assert_eq!(back.ipam_config.as_ref().map(|ipam| ipam.ipv4_address.as_str()), Some("10.0.0.5"));
        assert_eq!(back.mac_address, "02:42:ac:11:00:02");
        assert!(config.endpoints_config.contains_key("front"));
        flags.ip = "10.0.0.6".into();
        assert!(build(&flags).is_err_and(|e| e.starts_with("conflicting options: cannot specify both --ip")));
    }

    #[test]
    fn without_a_network_it_is_the_default_one() {
        let (mode, config) = build(&ContainerFlags::default()).expect("good");
        assert_eq!(mode, "default");
        assert_eq!(config.endpoints_config.keys().collect::<Vec<_>>(), ["default"]);
    }

    #[test]
    fn addresses_of_links_come_in_gos_forms() {
        for text in ["02:42:ac:11:00:02", "02-42-AC-11-00-02", "0242.ac11.0002", "02:42:ac:11:00:02:03:04"] {
            assert_eq!(check_mac(text), Ok(()), "{text}");
        }
        for text in ["x", "02:42:ac:11:00", "02:42:ac:11:00:0g", "0242ac110002", "0242.ac11.00"] {
            assert_eq!(check_mac(text), Err(format!("{text} is not a valid mac address")));
        }
    }

    #[test]
    fn what_does_not_go_together_is_told_in_dockers_words() {
        let build = |networks: &[&str], aliases: &[&str]| {
            let mut flags = ContainerFlags::default();
            for network in networks {
                flags.network.set(network).expect("readable");
            }
            flags.network_alias = aliases.iter().map(|&alias| alias.to_owned()).collect();
            super::build(&flags).map(|(mode, _)| mode)
        };
        assert_eq!(build(&["a", "b"], &["x"]), Ok("a".to_owned()));
        let mixed = "conflicting options: cannot attach both user-defined and non-user-defined network-modes";
        let aliases = "network-scoped aliases are only supported for user-defined networks";
        for (networks, given, error) in [
            (vec!["a", "host"], vec![], mixed),
            (vec!["container:x", "a"], vec![], mixed),
            (vec![], vec!["x"], aliases),
            (vec!["name=bridge,alias=x"], vec![], aliases),
            (vec!["a", "a"], vec![], "network \"a\" is specified multiple times"),
            (vec![""], vec![], "no name set for network"),
            (vec!["name=a,mac-address=x"], vec![], "x is not a valid mac address"),
            (
                vec!["name=a,alias=z"],
                vec!["x"],
                "conflicting options: cannot specify both --network-alias and per-network alias",
            ),
        ] {
            assert_eq!(build(&networks, &given), Err(error.to_owned()), "{networks:?}");
        }
    }

    #[test]
    fn what_is_no_setting_is_refused_as_it_is_read() {
        for (text, error) in [
            ("name=a,foo=b", "invalid field key foo"),
            ("name=a,foo", "invalid field foo"),
            ("name=a,driver-opt==x", "invalid key value pair format in driver options"),
            ("name=a,gw-priority=x", "invalid gw-priority (x): invalid syntax"),
            (
                "name=a,gw-priority=99999999999999999999",
                "invalid gw-priority (99999999999999999999): value out of range",
            ),
            ("alias=a", "network name/id is not specified"),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()), "{text}");
        }
        let sysctls = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.a=1,net.ipv4.conf.IFNAME.b=0";
        let network = parse(&format!("name=a,\"driver-opt={sysctls}\"")).expect("quoted");
        let (key, value) = sysctls.split_once('=').expect("a pair");
        assert_eq!(network.driver_options[key], value);
    }
}

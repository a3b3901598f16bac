//! `--network` and what belongs to it: addresses, aliases, links.

use std::collections::BTreeMap;

use skep_wire::{EndpointIpamConfig, EndpointSettings, NetworkingConfig};

use super::ContainerFlags;
use crate::cli::csv;
use crate::cli::flags::FlagValue;

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
            "mac-address" => network.mac = check_mac(value)?,
            "driver-opt" => {
                let (name, value) = value
                    .split_once('=')
                    .ok_or_else(|| "invalid key value pair format in driver options".to_owned())?;
                network.driver_options.insert(name.to_lowercase(), value.to_owned());
            }
            "gw-priority" => {
                network.priority = value.parse().map_err(|_| format!("invalid gw-priority: {value}"))?;
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if network.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(network)
}

/// Six pairs of hexadecimal digits, as Go's `net.ParseMAC` reads them (the forms with colons and dashes).
pub(crate) fn check_mac(text: &str) -> Result<String, String> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let groups: Vec<&str> = text.split(separator).collect();
    let good = matches!(groups.len(), 6 | 8)
        && groups.iter().all(|group| group.len() == 2 && group.bytes().all(|c| c.is_ascii_hexdigit()));
    if good { Ok(text.to_owned()) } else { Err(format!("{text} is not a valid mac address")) }
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
        first.mac = check_mac(&flags.mac_address)?;
    }
    first.link_local.extend(flags.link_local_ip.iter().cloned());

    let mode = first.target.clone();
    let mut endpoints = BTreeMap::new();
    for (index, network) in networks.into_iter().enumerate() {
        if network.target.is_empty() {
            return Err("network name/id is not specified".to_owned());
        }
        let links = if index == 0 && is_user_defined(&network.target) { flags.link.0.clone() } else { Vec::new() };
        let name = network.target.clone();
        if endpoints.insert(name.clone(), Some(endpoint(network, links))).is_some() {
            return Err(format!("network {name:?} is specified multiple times"));
        }
    }
    Ok((mode, NetworkingConfig { endpoints_config: endpoints }))
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
        assert_eq!(check_mac("x"), Err("x is not a valid mac address".into()));
    }
}

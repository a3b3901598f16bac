//! Options of networks' drivers, as `network create -o` writes them. An option that no driver here knows is kept and shown,
//! as Docker does.

use std::collections::BTreeMap;
use std::net::IpAddr;

use skep_net::{BridgeLink, GatewayMode, IpvlanFlag, IpvlanMode, LinkConfig, MacvlanMode};

use super::check::Driver;
use crate::{Error, Result};

type Options = BTreeMap<String, String>;

const MTU: &str = "com.docker.network.driver.mtu";
const IPV4: &str = "com.docker.network.enable_ipv4";
const IPV6: &str = "com.docker.network.enable_ipv6";

/// What `link` makes of the options of a driver; `id` names a bridge that has no name of its own.
pub(super) fn link(driver: Driver, options: &Options, id: &str, internal: bool) -> Result<LinkConfig> {
    let parent = || options.get("parent").filter(|name| !name.is_empty()).cloned();
    match driver {
        Driver::Bridge => bridge(options, id, internal).map(LinkConfig::Bridge),
        Driver::Macvlan => {
            let mode = match options.get("macvlan_mode").map_or("", String::as_str) {
                "" | "bridge" => MacvlanMode::Bridge,
                "private" => MacvlanMode::Private,
                "vepa" => MacvlanMode::Vepa,
                "passthru" => MacvlanMode::Passthru,
                other => {
                    return Err(Error::Invalid(format!(
                        "requested macvlan mode '{other}' is not valid, 'bridge' mode is the macvlan driver default"
                    )));
                }
            };
            Ok(LinkConfig::Macvlan { parent: parent(), mode })
        }
        Driver::Ipvlan => Ok(LinkConfig::Ipvlan {
            parent: parent(),
            mode: ipvlan_mode(options)?,
            flag: match options.get("ipvlan_flag").map_or("", String::as_str) {
                "" | "bridge" => IpvlanFlag::Bridge,
                "private" => IpvlanFlag::Private,
                "vepa" => IpvlanFlag::Vepa,
                other => {
                    return Err(Error::Invalid(format!(
                        "requested ipvlan flag '{other}' is not valid, 'bridge' is the ipvlan driver default"
                    )));
                }
            },
        }),
    }
}

fn ipvlan_mode(options: &Options) -> Result<IpvlanMode> {
    match options.get("ipvlan_mode").map_or("", String::as_str) {
        "" | "l2" => Ok(IpvlanMode::L2),
        "l3" => Ok(IpvlanMode::L3),
        "l3s" => Ok(IpvlanMode::L3s),
        other => Err(Error::Invalid(format!(
            "requested ipvlan mode '{other}' is not valid, 'l2' mode is the ipvlan driver default"
        ))),
    }
}

fn bridge(options: &Options, id: &str, internal: bool) -> Result<BridgeLink> {
    let generated = format!("br-{}", id.chars().take(12).collect::<String>());
    let mut link = BridgeLink::new(generated);
    for (key, value) in options {
        let Some(name) = key.strip_prefix("com.docker.network.") else { continue };
        match name {
            "bridge.name" if !value.is_empty() => link.name = checked_name(value)?,
            "bridge.enable_icc" => link.icc = boolean(key, value)?,
            "bridge.enable_ip_masquerade" => link.masquerade = boolean(key, value)?,
            "bridge.inhibit_ipv4" => link.inhibit_ipv4 = boolean(key, value)?,
            "bridge.host_binding_ipv4" => {
                let address: std::net::Ipv4Addr = value.parse().map_err(|_| unreadable(key, value, "nil ip"))?;
                link.host_binding = (!address.is_unspecified()).then_some(IpAddr::V4(address));
            }
            "bridge.gateway_mode_ipv4" => link.gateway_mode_v4 = gateway_mode(key, value, internal)?,
            "bridge.gateway_mode_ipv6" => link.gateway_mode_v6 = gateway_mode(key, value, internal)?,
            "bridge.trusted_host_interfaces" => {
                link.trusted_host_interfaces =
                    value.split(':').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            }
            "container_iface_prefix" => {
                link.ifname_prefix = Some(value.clone()).filter(|prefix| !prefix.is_empty());
            }
            "host_ipv4" | "host_ipv6" => return Err(Error::NotImplemented(format!("{key} is not supported by skep"))),
            _ => {}
        }
    }
    Ok(link)
}

/// The kernel's limit, and characters that it or the firewall's syntax would stumble over.
fn checked_name(name: &str) -> Result<String> {
    if name.len() > 15 {
        return Err(Error::Invalid(format!(
            "invalid bridge name {name:?}: numerical result out of range (at most 15 bytes)"
        )));
    }
    if name == "." || name == ".." || name.contains(|c: char| c == '/' || c == ':' || c == '"' || c.is_whitespace()) {
        return Err(Error::Invalid(format!("invalid bridge name {name:?}")));
    }
    Ok(name.to_owned())
}

fn gateway_mode(key: &str, value: &str, internal: bool) -> Result<GatewayMode> {
    match value {
        "" | "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" if !internal => {
            Err(Error::Invalid("gateway mode 'isolated' can only be used for an internal network".to_owned()))
        }
        "isolated" => Ok(GatewayMode::Isolated),
        other => Err(unreadable(key, value, &format!("unknown gateway mode {other}"))),
    }
}

/// The largest packet, if it is said.
pub(super) fn mtu(options: &Options) -> Result<Option<u32>> {
    let Some(text) = options.get(MTU).filter(|text| !text.is_empty()) else { return Ok(None) };
    let number: i64 =
        text.parse().map_err(|_| unreadable(MTU, text, &format!("strconv.Atoi: parsing {text:?}: invalid syntax")))?;
    match u32::try_from(number) {
        Ok(0) => Ok(None),
        Ok(mtu) => Ok(Some(mtu)),
        Err(_) => Err(Error::Invalid(format!("invalid MTU number: {number}"))),
    }
}

/// Whether the options switch IPv4 and IPv6 on or off; the request itself goes before them.
pub(super) fn families(options: &Options) -> Result<(Option<bool>, Option<bool>)> {
    let one = |key: &str| options.get(key).map(|value| boolean(key, value)).transpose();
    Ok((one(IPV4)?, one(IPV6)?))
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(unreadable(key, value, &format!("strconv.ParseBool: parsing {value:?}: invalid syntax"))),
    }
}

fn unreadable(key: &str, value: &str, why: &str) -> Error {
    Error::Invalid(format!("failed to parse {key} value: {value} ({why})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(driver: Driver, options: &[(&str, &str)], internal: bool) -> std::result::Result<LinkConfig, String> {
        let options: Options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        link(driver, &options, "0123456789abcdef", internal).map_err(|error| error.to_string())
    }

    #[test]
    fn bridges() {
        let named = |options: &[(&str, &str)]| made(Driver::Bridge, options, false);
        assert_eq!(named(&[("foo", "bar")]), Ok(LinkConfig::Bridge(BridgeLink::new("br-0123456789ab"))));
        let wanted = BridgeLink { icc: false, masquerade: false, ..BridgeLink::new("br7") };
        let options = [
            ("com.docker.network.bridge.name", "br7"),
            ("com.docker.network.bridge.enable_icc", "false"),
            ("com.docker.network.bridge.enable_ip_masquerade", "0"),
        ];
        assert_eq!(named(&options), Ok(LinkConfig::Bridge(wanted)));
        let cases = [
            (
                "bridge.enable_icc",
                "x",
                "failed to parse com.docker.network.bridge.enable_icc value: x (strconv.ParseBool: parsing \"x\": invalid \
                 syntax)",
            ),
            (
                "bridge.host_binding_ipv4",
                "x",
                "failed to parse com.docker.network.bridge.host_binding_ipv4 value: x (nil ip)",
            ),
            (
                "bridge.gateway_mode_ipv4",
                "x",
                "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: x (unknown gateway mode x)",
            ),
            (
                "bridge.gateway_mode_ipv6",
                "isolated",
                "gateway mode 'isolated' can only be used for an internal network",
            ),
            ("bridge.name", "a/b", "invalid bridge name \"a/b\""),
        ];
        for (key, value, text) in cases {
            assert_eq!(named(&[(&format!("com.docker.network.{key}"), value)]), Err(text.to_owned()));
        }
    }

    #[test]
    fn links_on_top_of_others() {
        let options = [("parent", "eth0.10"), ("macvlan_mode", "vepa")];
        let wanted = LinkConfig::Macvlan { parent: Some("eth0.10".to_owned()), mode: MacvlanMode::Vepa };
        assert_eq!(made(Driver::Macvlan, &options, false), Ok(wanted));
        assert_eq!(
            made(Driver::Ipvlan, &[("ipvlan_mode", "foo")], false),
            Err("requested ipvlan mode 'foo' is not valid, 'l2' mode is the ipvlan driver default".to_owned())
        );
    }

    #[test]
    fn sizes_of_packets() {
        let of = |text: &str| mtu(&BTreeMap::from([(MTU.to_owned(), text.to_owned())])).map_err(|e| e.to_string());
        assert_eq!(of("1400"), Ok(Some(1400)));
        assert_eq!(of("-1"), Err("invalid MTU number: -1".to_owned()));
        assert_eq!(
            of("x"),
            Err(format!("failed to parse {MTU} value: x (strconv.Atoi: parsing \"x\": invalid syntax)"))
        );
    }
}

//! Options and keys of the configuration file that are about networks: the default bridge, and what new networks get that say nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;
use skep_engine::{AddressPool, BridgeSettings, EngineConfig};

use super::file::File;
use super::settings::{either, list};
use crate::cli::Failure;
use crate::cli::daemon::DaemonFlags;

/// A pool as daemon.json writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilePool {
    base: String,
    size: u8,
}

/// Options of new networks, by driver.
type DefaultOptions = BTreeMap<String, BTreeMap<String, String>>;

/// What the engine is told.
pub(super) struct Networks {
    bridge: BridgeSettings,
    pools: Vec<AddressPool>,
    default_options: DefaultOptions,
}

impl Networks {
    pub(super) fn apply(self, engine: &mut EngineConfig) {
        engine.bridge = self.bridge;
        engine.address_pools = self.pools;
        engine.default_network_options = self.default_options;
    }
}

/// Takes what is about networks out of both.
pub(super) fn take(flags: &mut DaemonFlags, file: &mut File, c: &mut Vec<String>) -> Result<Networks, Failure> {
    // What is not so here can't be asked for.
    for (name, given, only) in [
        ("iptables", file.iptables, true),
        ("ip6tables", file.ip6tables, true),
        ("userland-proxy", file.userland_proxy, false),
    ] {
        if given.is_some_and(|given| given != only) {
            return Err(Failure::message(format!("{name} can only be {only}: this daemon has no other way")));
        }
    }
    let words = std::mem::take(&mut flags.default_address_pools);
    let pools: Vec<FilePool> = words.iter().map(|text| pool_words(text)).collect::<Result<_, _>>()?;
    let pools =
        either("default-address-pools", (!pools.is_empty()).then_some(pools), file.default_address_pools.take(), c);
    let options =
        list(std::mem::take(&mut flags.default_network_opts)).map(|words| default_options(&words)).transpose()?;
    let bridge = bridge(Bridge {
        name: either("bridge", flags.bridge.take(), file.bridge.take(), c),
        address: either("bip", flags.bip.take(), file.bip.take(), c),
        address6: either("bip6", flags.bip6.take(), file.bip6.take(), c),
        range: either("fixed-cidr", flags.fixed_cidr.take(), file.fixed_cidr.take(), c),
        range6: either("fixed-cidr-v6", flags.fixed_cidr_v6.take(), file.fixed_cidr_v6.take(), c),
        ipv6: either("ipv6", flags.ipv6.then_some(true), file.ipv6, c).unwrap_or(false),
        mtu: either("mtu", flags.mtu.take(), file.mtu.map(|mtu| mtu.to_string()), c),
        icc: either("icc", flags.icc, file.icc, c),
        masquerade: either("ip-masq", flags.ip_masq, file.ip_masq, c),
        host_ip: either("ip", flags.ip.take(), file.ip.take(), c),
    })?;
    Ok(Networks {
        bridge,
        pools: pools.unwrap_or_default().iter().map(pool).collect::<Result<_, _>>()?,
        default_options: either("default-network-opts", options, file.default_network_opts.take(), c)
            .unwrap_or_default(),
    })
}

struct Bridge {
    name: Option<String>,
    address: Option<String>,
    address6: Option<String>,
    range: Option<String>,
    range6: Option<String>,
    ipv6: bool,
    mtu: Option<String>,
    icc: Option<bool>,
    masquerade: Option<bool>,
    host_ip: Option<String>,
}

fn bridge(wanted: Bridge) -> Result<BridgeSettings, Failure> {
    if wanted.name.as_deref() == Some("none") {
        return Ok(BridgeSettings::Disabled);
    }
    let link = wanted.name.unwrap_or_else(|| "skep0".to_owned());
    if link.is_empty() || link.len() > 15 || link.contains(['/', ' ']) {
        return Err(Failure::message(format!("invalid bridge name: \"{link}\" (1 to 15 letters)")));
    }
    let v4 = |option: &str, text: Option<String>| text.map(|text| cidr::<Ipv4Addr>(option, &text, 30)).transpose();
    let v6 = |option: &str, text: Option<String>| text.map(|text| cidr(option, &text, 126)).transpose();
    Ok(BridgeSettings::Managed {
        link,
        address: v4("bip", wanted.address)?,
        range: v4("fixed-cidr", wanted.range)?,
        ipv6: wanted.ipv6,
        address6: v6("bip6", wanted.address6)?,
        range6: v6("fixed-cidr-v6", wanted.range6)?,
        mtu: match wanted.mtu {
            None => 1500,
            Some(text) => text
                .parse()
                .ok()
                .filter(|mtu| (68..=65535).contains(mtu))
                .ok_or_else(|| Failure::message(format!("invalid MTU: {text}")))?,
        },
        inter_container: wanted.icc.unwrap_or(true),
        masquerade: wanted.masquerade.unwrap_or(true),
        default_host_ip: match wanted.host_ip {
            None => Ipv4Addr::UNSPECIFIED,
            Some(text) => text.parse().map_err(|_| Failure::message(format!("invalid IPv4 address: {text}")))?,
        },
    })
}

fn cidr<A: std::str::FromStr>(option: &str, text: &str, longest: u8) -> Result<(A, u8), Failure> {
    text.split_once('/')
        .and_then(|(address, prefix)| Some((address.parse().ok()?, prefix.parse().ok().filter(|&p| p <= longest)?)))
        .ok_or_else(|| Failure::message(format!("invalid CIDR address for {option}: {text}")))
}

/// `base=10.10.0.0/16,size=24`.
fn pool_words(text: &str) -> Result<FilePool, Failure> {
    let invalid = || Failure::message(format!("invalid default address pool: {text}: want base=CIDR,size=BITS"));
    let (mut base, mut size) = (None, None);
    for part in text.split(',') {
        match part.split_once('=').ok_or_else(invalid)? {
            ("base", value) => base = Some(value.to_owned()),
            ("size", value) => size = Some(value.parse().map_err(|_| invalid())?),
            _ => return Err(invalid()),
        }
    }
    Ok(FilePool { base: base.ok_or_else(invalid)?, size: size.ok_or_else(invalid)? })
}

fn pool(wanted: &FilePool) -> Result<AddressPool, Failure> {
    let invalid = |why: &str| Failure::message(format!("invalid default address pool: {}: {why}", wanted.base));
    let (address, prefix): (IpAddr, u8) = cidr("default-address-pools", &wanted.base, 128)?;
    AddressPool::of(address, prefix, wanted.size).ok_or_else(|| invalid("the size must fit into the base"))
}

/// `bridge=com.docker.network.driver.mtu=1400`.
fn default_options(words: &[String]) -> Result<DefaultOptions, Failure> {
    let mut options = DefaultOptions::new();
    for word in words {
        let invalid = || Failure::message(format!("invalid default-network-opt: {word}: want DRIVER=OPTION=VALUE"));
        let (driver, option) = word.split_once('=').ok_or_else(invalid)?;
        let (key, value) = option.split_once('=').ok_or_else(invalid)?;
        options.entry(driver.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(change: impl FnOnce(&mut DaemonFlags, &mut File)) -> Result<EngineConfig, String> {
        let (mut flags, mut file) = (DaemonFlags::default(), File::default());
        change(&mut flags, &mut file);
        let mut engine = EngineConfig::new("/d".into(), "/e".into(), "/r".into());
        take(&mut flags, &mut file, &mut Vec::new()).map_err(|failure| failure.text)?.apply(&mut engine);
        Ok(engine)
    }

    #[test]
    fn the_bridge_can_be_switched_off_and_checked() {
        let none = taken(|flags, _| flags.bridge = Some("none".to_owned())).expect("good");
        assert!(matches!(none.bridge, BridgeSettings::Disabled));
        for bad in ["10.0.0.1", "10.0.0.1/33", "x/24"] {
            assert!(taken(|flags, _| flags.bip = Some(bad.to_owned())).is_err(), "{bad}");
        }
        let both = taken(|_, file| (file.ipv6, file.bip6) = (Some(true), Some("fd00::1/64".to_owned()))).expect("good");
        assert!(matches!(both.bridge, BridgeSettings::Managed { ipv6: true, address6: Some((_, 64)), .. }));
    }

    #[test]
    fn pools_and_options() {
        let pools = |text: &str| taken(|flags, _| flags.default_address_pools = vec![text.to_owned()]);
        let wanted = AddressPool::of("10.10.0.0".parse().expect("an address"), 16, 24).expect("a pool");
        assert_eq!(pools("base=10.10.0.0/16,size=24").expect("good").address_pools, [wanted]);
        for bad in
            ["10.0.0.0/8", "base=10.0.0.0/8", "base=x,size=24", "base=10.0.0.0/24,size=8", "base=10.0.0.0/8,size=33"]
        {
            assert!(pools(bad).is_err(), "{bad}");
        }
        let word = "bridge=com.docker.network.driver.mtu=1400".to_owned();
        let engine = taken(|flags, _| flags.default_network_opts = vec![word]).expect("good");
        assert_eq!(engine.default_network_options["bridge"]["com.docker.network.driver.mtu"], "1400");
    }

    #[test]
    fn what_there_is_only_one_way_for_cannot_be_switched() {
        assert!(taken(|_, file| file.iptables = Some(true)).is_ok());
        assert!(taken(|_, file| file.iptables = Some(false)).is_err());
        assert!(taken(|_, file| file.userland_proxy = Some(true)).is_err());
    }
}

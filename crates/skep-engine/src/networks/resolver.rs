//! What a container's own name server and its resolv.conf say.
//!
//! A container with a network namespace of its own has a name server in it (the shim's), whatever networks it is in: they may change
//! while it runs. In the default bridge, which has no names, and with servers that the user has chosen, resolv.conf names those directly
//! as Docker's does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use skep_dns::resolv::{self, HOST_FILE, Names, Overrides, RESOLVED_FILE, ResolvConf};
use skep_dns::{Client, Forward, HOST_NAME, Membership};
use skep_types::NetworkId;

use super::route::Leg;
use super::{BRIDGE, Networks};
use crate::config::EngineConfig;
use crate::containers::record::Record;
use crate::engine::Inner;
use crate::model::host::HostConfig;
use crate::model::network::NetworkMode;
use crate::{Error, Result};

/// In a container's bundle: what its name server answers from.
const CLIENT: &str = "names.json";
/// In a container's bundle: resolv.conf as it was written last. What differs from it was changed by someone else, and is left alone.
const WRITTEN: &str = "resolv.conf";

/// A network of a container that the kernel has a part in.
struct Place {
    id: NetworkId,
    name: String,
    internal: bool,
    /// Names that only this container has for others there, in lower case.
    links: BTreeMap<String, String>,
}

/// The file that the name server of a container answers from; none if it has no server.
pub(crate) fn client_file(record: &Record, bundle: &Path) -> Option<PathBuf> {
    has_server(record).then(|| bundle.join(CLIENT))
}

/// A directory for each network, with the names of its containers.
pub(super) fn names_directory(engine: &Inner) -> PathBuf {
    engine.config.exec_root.join("net")
}

/// The names of a network, for all its containers.
pub(super) fn names_file(engine: &Inner, network: NetworkId) -> PathBuf {
    names_directory(engine).join(network.to_string()).join("names")
}

fn has_server(record: &Record) -> bool {
    !matches!(record.host.network_mode, NetworkMode::Host | NetworkMode::Container(_))
        && !record.endpoints.contains_key("none")
}

/// Writes what the server answers from, and resolv.conf unless somebody has changed it. The networks are those of `record`. Blocking.
pub(crate) fn write(engine: &Inner, record: &Record, bundle: &Path) -> Result<()> {
    let places = engine.networks.places(record)?;
    if let Some(file) = client_file(record, bundle) {
        let client = client(engine, record, &places);
        let text = client.to_text().map_err(|e| Error::system("writing a container's names", e))?;
        replace(&file, &text)?;
    }
    let text = resolv_conf(&engine.config, record, &places)?;
    let (target, written) = (Path::new(&record.files.resolv_conf), bundle.join(WRITTEN));
    let is_ours = match (std::fs::read(target), std::fs::read(&written)) {
        (Ok(now), Ok(before)) => now == before,
        // The first time in this run: it is written anew at each start.
        _ => true,
    };
    if is_ours {
        // In place, as it may be mounted; and what is compared last, so that a half done change is seen as someone else's.
        let failed = |path: &Path, e| Error::system(format!("writing {}", path.display()), e);
        std::fs::write(target, &text).map_err(|e| failed(target, e))?;
        std::fs::write(&written, &text).map_err(|e| failed(&written, e))?;
    }
    Ok(())
}

fn resolv_conf(config: &EngineConfig, record: &Record, places: &[Place]) -> Result<String> {
    let host = read(HOST_FILE)?;
    let overrides = overrides(config, &record.host);
    let has_names = places.iter().any(|place| place.name != BRIDGE);
    Ok(match &record.host.network_mode {
        NetworkMode::Host => resolv::for_host_network(&host, &overrides),
        _ if !has_server(record) || !has_names && !places.is_empty() && !overrides.servers.is_empty() => {
            resolv::for_bridge(&behind_stub(host)?, &overrides, false)
        }
        _ => resolv::for_server(&host, &overrides, if has_names { Names::Yes } else { Names::No }),
    })
}

/// The text for a step of a build, which has no name server of its own.
pub(crate) fn resolv_conf_of_step(config: &EngineConfig, host: &HostConfig) -> Result<String> {
    let file = read(HOST_FILE)?;
    let overrides = overrides(config, host);
    Ok(match host.network_mode {
        NetworkMode::Host => resolv::for_host_network(&file, &overrides),
        _ => resolv::for_bridge(&behind_stub(file)?, &overrides, false),
    })
}

fn read(path: &str) -> Result<ResolvConf> {
    ResolvConf::read(Path::new(path)).map_err(|e| Error::system(format!("reading {path}"), e))
}

/// The servers behind systemd-resolved's stub, which is on the host's loopback.
fn behind_stub(host: ResolvConf) -> Result<ResolvConf> {
    if !host.is_only_stub() {
        return Ok(host);
    }
    let real = read(RESOLVED_FILE)?;
    Ok(if real.servers.is_empty() { host } else { real })
}

fn overrides(config: &EngineConfig, host: &HostConfig) -> Overrides {
    let pick = |own: &[String], default: &[String]| if own.is_empty() { default } else { own }.to_vec();
    Overrides {
        servers: pick(&host.dns, &config.dns),
        search: pick(&host.dns_search, &config.dns_search),
        options: pick(&host.dns_options, &config.dns_options),
    }
}

fn client(engine: &Inner, record: &Record, places: &[Place]) -> Client {
    let overrides = overrides(&engine.config, &record.host);
    let named = places.iter().filter(|place| place.name != BRIDGE);
    let membership = |place: &Place| Membership {
        name: place.name.clone(),
        names: names_file(engine, place.id),
        links: place.links.clone(),
    };
    let host = engine.networks.host_gateways(&engine.config);
    Client {
        networks: named.map(membership).collect(),
        hosts: if host.is_empty() { BTreeMap::new() } else { BTreeMap::from([(HOST_NAME.to_owned(), host)]) },
        forward: if places.iter().all(|place| place.internal) {
            Forward::Nowhere
        } else if overrides.servers.is_empty() {
            Forward::Host(PathBuf::from(HOST_FILE))
        } else {
            Forward::Servers(overrides.servers.iter().filter_map(|server| server.parse().ok()).collect())
        },
        dots_needed: overrides.need_dots(),
    }
}

impl Networks {
    /// In the order in which they are plugged in.
    fn places(&self, record: &Record) -> Result<Vec<Place>> {
        let place = |leg: Leg| Place {
            id: leg.network.id,
            name: leg.network.name.clone(),
            internal: leg.config.internal,
            links: leg.settings.links.iter().map(|text| link(text)).map(|(name, alias)| (alias, name)).collect(),
        };
        Ok(self.legs(record)?.into_iter().map(place).collect())
    }
}

/// Takes `container[:alias]` apart, with the alias in lower case, as names are asked for.
fn link(text: &str) -> (String, String) {
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    (name.trim_start_matches('/').to_owned(), alias.trim_start_matches('/').to_ascii_lowercase())
}

/// Puts a file in place as a whole, for readers that may look at any time. Not synced: the exec root does not outlive the machine.
pub(super) fn replace(path: &Path, text: &[u8]) -> Result<()> {
    let draft = path.with_extension("new");
    std::fs::write(&draft, text)
        .and_then(|()| std::fs::rename(&draft, path))
        .map_err(|e| Error::system(format!("writing {}", path.display()), e))
}

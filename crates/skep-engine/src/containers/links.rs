//! `--link` on the default bridge, as old scripts have it: a line in /etc/hosts and variables that tell addresses and ports of another
//! container. (In networks that have names a link is a name: `networks/resolver.rs`.)
//!
//! A link is kept as the other container's id and the alias, so that it survives renaming. It is resolved at each start.

use std::net::IpAddr;

use skep_types::{ContainerId, Port, Protocol};

use super::record::Record;
use crate::engine::Inner;
use crate::model::host::HostConfig;
use crate::model::network::NetworkMode;
use crate::model::view::ContainerView;
use crate::{Error, Result};

/// The network that has no names, but links.
const BRIDGE: &str = "bridge";

/// Whether links of the host configuration count.
fn apply(mode: &NetworkMode) -> bool {
    matches!(mode, NetworkMode::Default | NetworkMode::Bridge)
}

/// Checks `container[:alias]` when a container is made, and replaces names by ids.
pub(super) fn resolve(engine: &Inner, host: &mut HostConfig) -> Result<()> {
    if !apply(&host.network_mode) {
        return Ok(());
    }
    for text in &mut host.links {
        let (name, alias) = split(text).ok_or_else(|| Error::Invalid(format!("bad format for links: {text}")))?;
        let other = engine.containers.find(name).map_err(|error| match error {
            Error::NoSuchContainer(_) => {
                Error::Invalid(format!("could not get container for {name}: No such container: {name}"))
            }
            other => other,
        })?;
        if other.view().host.network_mode == NetworkMode::Host {
            return Err(Error::Invalid(
                "conflicting options: host type networking can't be used with links. This would result in undefined \
                 behavior"
                    .to_owned(),
            ));
        }
        *text = format!("{}:{alias}", other.id);
    }
    Ok(())
}

/// `container[:alias]`, with or without slashes before the names, as inspect shows them.
fn split(text: &str) -> Option<(&str, &str)> {
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    let name = name.trim_start_matches('/');
    let alias = alias.rsplit('/').next()?;
    (!name.is_empty() && !alias.is_empty() && !alias.contains(':')).then_some((name, alias))
}

/// The containers that a record links to, as they are now, with their aliases. Those that are gone are links no more.
fn others<'a>(engine: &Inner, links: &'a [String]) -> Vec<(&'a str, std::sync::Arc<ContainerView>)> {
    let other = |text: &'a String| {
        let (id, alias) = text.split_once(':')?;
        let handle = engine.containers.get(id.parse::<ContainerId>().ok()?)?;
        Some((alias, handle.view()))
    };
    links.iter().filter_map(other).collect()
}

/// As inspect shows links: `/db:/web/store`.
pub(super) fn shown(engine: &Inner, record: &Record) -> Vec<String> {
    if !apply(&record.host.network_mode) {
        return record.host.links.clone();
    }
    let other =
        |(alias, other): (&str, std::sync::Arc<ContainerView>)| format!("/{}:/{}/{alias}", other.name, record.name);
    others(engine, &record.host.links).into_iter().map(other).collect()
}

/// Variables that tell a container which is about to start of those that it links to, which have to run.
pub(super) fn variables(engine: &Inner, record: &Record) -> Result<Vec<String>> {
    let mut variables = Vec::new();
    if !apply(&record.host.network_mode) {
        return Ok(variables);
    }
    for (alias, other) in others(engine, &record.host.links) {
        if engine.containers.get(other.id).is_none_or(|handle| handle.live().is_err()) {
            return Err(Error::Invalid(format!(
                "Cannot link to a non running container: /{} AS /{}/{alias}",
                other.name, record.name
            )));
        }
        let address = address(&other).ok_or_else(|| {
            Error::Invalid(format!("child container {} not attached to default bridge network", other.id))
        })?;
        variables.extend(environment(record.name.as_str(), alias, address, &other));
    }
    Ok(variables)
}

/// Lines for /etc/hosts: names with an address. Those that do not run have none.
pub(super) fn hosts(engine: &Inner, record: &Record) -> Vec<(String, IpAddr)> {
    if !apply(&record.host.network_mode) {
        return Vec::new();
    }
    let others = others(engine, &record.host.links).into_iter();
    others.filter_map(|(alias, other)| Some((host_names(alias, &other), address(&other)?))).collect()
}

fn address(other: &ContainerView) -> Option<IpAddr> {
    let place = other.endpoints.get(BRIDGE)?.attached.as_ref()?;
    place.address.map(IpAddr::V4)
}

fn host_names(alias: &str, other: &ContainerView) -> String {
    let hostname = if other.config.hostname.is_empty() { other.id.short() } else { other.config.hostname.clone() };
    let name = other.name.to_string();
    if name == alias { format!("{alias} {hostname}") } else { format!("{alias} {hostname} {name}") }
}

fn environment(parent: &str, alias: &str, address: IpAddr, other: &ContainerView) -> Vec<String> {
    let prefix = alias.to_uppercase().replace('-', "_");
    let mut ports: Vec<Port> = other.config.exposed_ports.iter().copied().collect();
    ports.sort_by_key(|port| (port.number, port.protocol != Protocol::Tcp));
    let url = |port: &Port| format!("{}://{address}:{}", port.protocol, port.number);
    let upper = |port: &Port| format!("{prefix}_PORT_{}_{}", port.number, port.protocol.as_str().to_uppercase());
    let mut env = Vec::new();
    if let Some(first) = ports.first() {
        env.push(format!("{prefix}_PORT={}", url(first)));
    }
    for run in ports.chunk_by(|a, b| a.protocol == b.protocol && a.number + 1 == b.number) {
        let [first, .., last] = run else { continue };
        let (name, end) = (upper(first), upper(last));
        env.push(format!("{name}_START={}", url(first)));
        env.push(format!("{name}_ADDR={address}"));
        env.push(format!("{name}_PROTO={}", first.protocol));
        env.push(format!("{name}_PORT_START={}", first.number));
        env.push(format!("{end}_END={}", url(last)));
        env.push(format!("{end}_PORT_END={}", last.number));
    }
    for port in &ports {
        let name = upper(port);
        env.push(format!("{name}={}", url(port)));
        env.push(format!("{name}_ADDR={address}"));
        env.push(format!("{name}_PORT={}", port.number));
        env.push(format!("{name}_PROTO={}", port.protocol));
    }
    env.push(format!("{prefix}_NAME=/{parent}/{alias}"));
    for (name, value) in other.config.env.iter().filter_map(|entry| entry.split_once('=')) {
        if !matches!(name, "" | "HOME" | "PATH") {
            env.push(format!("{prefix}_ENV_{name}={value}"));
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_says() {
        assert_eq!(split("db"), Some(("db", "db")));
        assert_eq!(split("db:store"), Some(("db", "store")));
        assert_eq!(split("/db:/web/store"), Some(("db", "store")));
        for bad in ["", ":", "db:", ":store", "a:b:c", "/"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}

//! Which hosts a registry's content can be had from: mirrors first, the registry itself last.
//!
//! Two forms of configuration, the more specific one first:
//! - `hosts.toml` in a registry's directory (`HOST[:PORT]`, `HOST_PORT_`, or `_default` for all), containerd's format: hosts with their
//!   capabilities, certificates and headers, and the server after them. Its file says the order.
//! - `registry-mirrors`, for Docker Hub only, as dockerd has it.
//!
//! A file that can't be read ends the pull: going on without it could fetch from where the administrator did not want it to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use url::Url;

use crate::repository::Access;
use crate::{RegistryConfig, RegistryError, Result};

/// One host to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) address: Address,
    pub(crate) role: Role,
    /// May tell which digest a tag has.
    pub(crate) resolves: bool,
    /// Has blobs, and manifests by digest.
    pub(crate) pulls: bool,
    pub(crate) pushes: bool,
    pub(crate) tls: Tls,
    /// Sent with every request to this host, and to no other.
    pub(crate) headers: HeaderMap,
    pub(crate) connect_timeout: Option<Duration>,
}

/// Where a host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `host[:port]`: scheme and path are the usual ones.
    Name(String),
    /// The root of its API, with a slash at its end.
    Root(Url),
}

/// What a host is to the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The registry itself: gets the user's credentials.
    Registry,
    /// Another one: gets none, and is told whose content is wanted.
    Mirror,
}

/// Certificates and trust that `hosts.toml` names, besides those in the host's own directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) skip_verify: bool,
    pub(crate) authorities: Vec<PathBuf>,
    /// Certificate, and key if it is in another file.
    pub(crate) identities: Vec<(PathBuf, Option<PathBuf>)>,
}

impl Host {
    fn new(address: Address, role: Role) -> Self {
        let (tls, headers) = (Tls::default(), HeaderMap::new());
        Host { address, role, resolves: true, pulls: true, pushes: true, tls, headers, connect_timeout: None }
    }

    fn registry(name: &str) -> Self {
        let name = if name == "docker.io" { "registry-1.docker.io" } else { name };
        Host::new(Address::Name(name.to_owned()), Role::Registry)
    }
}

/// The hosts of a registry that serve `access`, in the order in which they are to be asked.
pub(crate) fn hosts(config: &RegistryConfig, registry: &str, access: Access) -> Result<Vec<Host>> {
    let mut hosts = match find(&config.certificate_dirs, registry) {
        Some(path) => read(&path, registry)?,
        None if registry == "docker.io" => mirrors(&config.mirrors)?,
        None => vec![Host::registry(registry)],
    };
    hosts.retain(|host| match access {
        Access::Pull => host.pulls || host.resolves,
        Access::Push => host.pushes,
    });
    Ok(hosts)
}

/// Docker Hub and its mirrors.
fn mirrors(mirrors: &[String]) -> Result<Vec<Host>> {
    let mut hosts = Vec::new();
    for mirror in mirrors {
        let root = format!("{}/v2/", mirror.trim_end_matches('/'));
        let root = Url::parse(&root).map_err(|error| RegistryError::Setup(format!("mirror {mirror:?}: {error}")))?;
        hosts.push(Host { pushes: false, ..Host::new(Address::Root(root), Role::Mirror) });
    }
    hosts.push(Host::registry("docker.io"));
    Ok(hosts)
}

/// A registry's `hosts.toml`.
fn find(dirs: &[PathBuf], registry: &str) -> Option<PathBuf> {
    // A registry's name follows the grammar of references: it has no slash and can't be `..`.
    let with_port = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    let names = || with_port.as_deref().into_iter().chain([registry, "_default"]);
    let paths = names().flat_map(|name| dirs.iter().map(move |dir| dir.join(name).join("hosts.toml")));
    paths.into_iter().find(|path| path.exists())
}

/// What a host, or the server, may have in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    capabilities: Vec<String>,
    ca: Option<OneOrMany<String>>,
    client: Option<OneOrMany<OneOrMany<String>>>,
    skip_verify: bool,
    header: std::collections::BTreeMap<String, OneOrMany<String>>,
    override_path: bool,
    dial_timeout: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

fn read(path: &Path, registry: &str) -> Result<Vec<Host>> {
    let failed = |reason: String| RegistryError::Setup(format!("{}: {reason}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    parse(&text, path.parent().unwrap_or(path), registry).map_err(failed)
}

pub(crate) fn parse(text: &str, dir: &Path, registry: &str) -> Result<Vec<Host>, String> {
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let mut hosts = Vec::new();
    if let Some(entries) = table.remove("host") {
        let toml::Value::Table(entries) = entries else { return Err("\"host\" is not a table".to_owned()) };
        for (name, entry) in entries {
            let entry: Entry = entry.try_into().map_err(|error| format!("host {name:?}: {}", error.message()))?;
            hosts.push(host(root(&name, entry.override_path)?, Role::Mirror, entry, dir)?);
        }
    }
    let server = match table.remove("server") {
        None => None,
        Some(toml::Value::String(server)) => Some(server).filter(|server| !server.is_empty()),
        Some(_) => return Err("\"server\" is not a text".to_owned()),
    };
    let entry: Entry = table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let address = match server {
        Some(server) => root(&server, entry.override_path)?,
        None => Host::registry(registry).address,
    };
    let own = host(address, Role::Registry, entry, dir)?;
    // A host that is the server under another path, or with other certificates, is the registry itself.
    for host in hosts.iter_mut().filter(|host| same_place(&host.address, &own.address)) {
        host.role = Role::Registry;
    }
    hosts.push(own);
    Ok(hosts)
}

fn same_place(one: &Address, other: &Address) -> bool {
    let name = |address: &Address| match address {
        Address::Name(name) => name.clone(),
        Address::Root(url) => match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        },
    };
    name(one) == name(other)
}

fn root(text: &str, override_path: bool) -> Result<Address, String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let mut url = Url::parse(&text).map_err(|error| format!("unable to parse server {text}: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(format!("unable to parse server {text}: want http:// or https:// and a host"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    let path = if override_path || path.ends_with("/v2") { path } else { format!("{path}/v2") };
    url.set_path(&format!("{path}/"));
    Ok(Address::Root(url))
}

fn host(address: Address, role: Role, entry: Entry, dir: &Path) -> Result<Host, String> {
    let mut host = Host::new(address, role);
    if !entry.capabilities.is_empty() {
        (host.pulls, host.resolves, host.pushes) = (false, false, false);
    }
    for capability in &entry.capabilities {
        match capability.to_lowercase().as_str() {
            "pull" => host.pulls = true,
            "resolve" => host.resolves = true,
            "push" => host.pushes = true,
            _ => return Err(format!("unknown capability {capability}")),
        }
    }
    host.tls.skip_verify = entry.skip_verify;
    let authorities = entry.ca.map(OneOrMany::into_vec).unwrap_or_default();
    host.tls.authorities = authorities.iter().map(|file| dir.join(file)).collect();
    for pair in entry.client.map(OneOrMany::into_vec).unwrap_or_default() {
        match pair.into_vec().as_slice() {
            [both] => host.tls.identities.push((dir.join(both), None)),
            [certificate, key] => host.tls.identities.push((dir.join(certificate), Some(dir.join(key)))),
            other => return Err(format!("invalid pair {other:?} for \"client\"")),
        }
    }
    for (name, values) in entry.header {
        let header = HeaderName::try_from(&name).map_err(|_| format!("invalid header {name:?}"))?;
        for value in values.into_vec() {
            // Not shown: it may be a secret.
            let mut value = HeaderValue::try_from(value).map_err(|_| format!("invalid value of header {name:?}"))?;
            value.set_sensitive(true);
            host.headers.append(header.clone(), value);
        }
    }
    host.connect_timeout = entry.dial_timeout.as_deref().map(seconds).transpose()?;
    Ok(host)
}

/// A duration as Go writes the plain ones: `500ms`, `5s`, `2m`.
fn seconds(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid dial_timeout {text:?}: want a number with ms, s or m");
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(invalid)?;
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(invalid()),
    };
    Duration::try_from_secs_f64(number * factor).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(hosts: &[Host]) -> Vec<String> {
        let show = |host: &Host| match &host.address {
            Address::Name(name) => name.clone(),
            Address::Root(url) => url.to_string(),
        };
        hosts.iter().map(show).collect()
    }

    #[test]
    fn mirrors_are_for_docker_hub() {
        let config = RegistryConfig {
            mirrors: vec!["https://mirror.example".to_owned(), "http://other.example:5000/hub/".to_owned()],
            certificate_dirs: Vec::new(),
            ..RegistryConfig::default()
        };
        let of = |registry, access| roots(&hosts(&config, registry, access).expect("hosts"));
        assert_eq!(
            of("docker.io", Access::Pull),
            ["https://mirror.example/v2/", "http://other.example:5000/hub/v2/", "registry-1.docker.io"]
        );
        assert_eq!(of("docker.io", Access::Push), ["registry-1.docker.io"]);
        assert_eq!(of("reg.example", Access::Pull), ["reg.example"]);
    }

    #[test]
    fn a_hosts_file_says_all_about_a_registry() {
        let text = r#"
            server = "https://up.example"
            skip_verify = true
            [host."http://second.example:5000"]
              capabilities = ["pull"]
              ca = "ca.pem"
              client = [["c.pem", "/k.pem"], "both.pem"]
              dial_timeout = "1.5s"
              [host."http://second.example:5000".header]
                x-token = ["a", "b"]
            [host."first.example/api"]
              override_path = true
              capabilities = ["pull", "resolve", "push"]
        "#;
        let hosts = parse(text, Path::new("/d"), "reg.example").expect("hosts");
        assert_eq!(
            roots(&hosts),
            ["http://second.example:5000/v2/", "https://first.example/api/", "https://up.example/v2/"]
        );
        let second = &hosts[0];
        assert!(second.pulls && !second.resolves && !second.pushes);
        assert_eq!(second.tls.authorities, [Path::new("/d/ca.pem")]);
        assert_eq!(second.tls.identities.len(), 2);
        assert_eq!(second.tls.identities[0], ("/d/c.pem".into(), Some("/k.pem".into())));
        assert_eq!(second.headers.get_all("x-token").iter().count(), 2);
        assert_eq!(second.connect_timeout, Some(Duration::from_millis(1500)));
        assert!(hosts[2].tls.skip_verify && hosts[2].role == Role::Registry && hosts[2].resolves);
        assert_eq!(roots(&parse("", Path::new("/d"), "docker.io").expect("hosts")), ["registry-1.docker.io"]);
    }

    #[test]
    fn a_wrong_file_is_an_error_that_shows_no_secret() {
        for (text, part) in [
            ("server = 1", "\"server\" is not a text"),
            ("[host.\"ftp://x\"]", "unable to parse server"),
            ("[host.x]\ncapabilities = [\"fly\"]", "unknown capability fly"),
            ("[host.x]\ndial_timeout = \"soon\"", "invalid dial_timeout"),
            ("[host.x]\nheader = { a = \"se\\ncret\" }", "invalid value of header"),
        ] {
            let error = parse(text, Path::new("/d"), "x").expect_err(text);
            assert!(error.contains(part) && !error.contains("cret"), "{error}");
        }
    }

    #[test]
    fn files_are_found_by_name_and_by_default() {
        let dir = tempfile::tempdir().expect("tempdir");
        let dirs = [dir.path().to_owned()];
        let put = |name: &str| {
            std::fs::create_dir_all(dir.path().join(name)).expect("a directory");
            std::fs::write(dir.path().join(name).join("hosts.toml"), "").expect("a file");
        };
        assert_eq!(find(&dirs, "a:5"), None);
        for name in ["_default", "a:5", "a_5_"] {
            put(name);
            assert_eq!(find(&dirs, "a:5"), Some(dir.path().join(name).join("hosts.toml")));
        }
        assert_eq!(find(&dirs, "b"), Some(dir.path().join("_default/hosts.toml")));
    }
}

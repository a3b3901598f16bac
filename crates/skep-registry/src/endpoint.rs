//! How a host may be spoken to: its addresses, and what it has to show.
//!
//! A registry is secure (TLS with a certificate that checks out) unless it is on loopback or configured as insecure; those are
//! tried with TLS first, with any certificate, and with plain HTTP if that gets no answer. Docker Hub's name is not its address.
//! A host that is configured with a scheme is spoken to in this way only.

use std::net::IpAddr;

use ipnet::IpNet;
use reqwest::Client;
use reqwest::header::HeaderMap;
use url::Url;

use crate::client::{Trust, client};
use crate::hosts::{Address, Host, Role, hosts};
use crate::repository::Access;
use crate::{RegistryConfig, RegistryError, Result};

/// One way to speak to a host.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// `https://host:port/`, perhaps with a path.
    pub(crate) base: Url,
    /// The API's root: mostly `v2/` below the base.
    pub(crate) root: Url,
    pub(crate) client: Client,
    /// For requests to this host only.
    pub(crate) headers: HeaderMap,
    /// The registry whose content is wanted, for hosts that have several.
    pub(crate) namespace: Option<String>,
}

/// The ways to the registry itself, in the order to try them.
pub(crate) async fn candidates(config: &RegistryConfig, registry: &str, access: Access) -> Result<Vec<Endpoint>> {
    let mut ways = Vec::new();
    for host in hosts(config, registry, access)?.iter().filter(|host| host.role == Role::Registry) {
        ways.extend(ways_to(config, host, registry, access).await?);
    }
    Ok(ways)
}

/// The ways to a host, in the order to try them.
pub(crate) async fn ways_to(
    config: &RegistryConfig,
    host: &Host,
    registry: &str,
    access: Access,
) -> Result<Vec<Endpoint>> {
    let wrong = |address: &str, e: url::ParseError| RegistryError::Setup(format!("registry address {address:?}: {e}"));
    let (roots, address) = match &host.address {
        Address::Root(root) => {
            let name = root.host_str().unwrap_or_default();
            (vec![root.clone()], root.port().map_or(name.to_owned(), |port| format!("{name}:{port}")))
        }
        Address::Name(name) => {
            let root = |scheme: &str| Url::parse(&format!("{scheme}://{name}/v2/")).map_err(|e| wrong(name, e));
            let plain =
                if is_insecure(config, name).await && !host.tls.skip_verify { Some(root("http")?) } else { None };
            (std::iter::once(root("https")?).chain(plain).collect(), name.clone())
        }
    };
    let trust = match host.tls.skip_verify || is_insecure(config, &address).await {
        true => Trust::Anything,
        false => Trust::Authorities,
    };
    let client = client(config, &address, host, trust, access)?;
    let namespace = (host.role == Role::Mirror).then(|| registry.to_owned());
    let endpoint = |root: Url| {
        let mut base = root.clone();
        base.set_path(root.path().strip_suffix("v2/").unwrap_or(root.path()));
        Endpoint { base, root, client: client.clone(), headers: host.headers.clone(), namespace: namespace.clone() }
    };
    Ok(roots.into_iter().map(endpoint).collect())
}

/// Host without port and without the brackets of IPv6.
pub(crate) fn host_of(address: &str) -> &str {
    match address.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => address.rsplit_once(':').map_or(address, |(host, _)| host),
    }
}

pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn is_insecure(config: &RegistryConfig, address: &str) -> bool {
    let host = host_of(address);
    if is_loopback(host) || config.insecure.iter().any(|entry| entry == address) {
        return true;
    }
    let ranges: Vec<IpNet> = config.insecure.iter().filter_map(|entry| entry.parse().ok()).collect();
    if ranges.is_empty() {
        return false;
    }
    let addresses: Vec<IpAddr> = match host.parse() {
        Ok(ip) => vec![ip],
        Err(_) => match tokio::net::lookup_host((host, 443)).await {
            Ok(found) => found.map(|a| a.ip()).collect(),
            Err(_) => return false,
        },
    };
    addresses.iter().any(|ip| ranges.iter().any(|range| range.contains(ip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn insecure(address: &str, entries: &[&str]) -> bool {
        let config =
            RegistryConfig { insecure: entries.iter().map(|e| (*e).to_owned()).collect(), ..RegistryConfig::default() };
        is_insecure(&config, address).await
    }

    #[tokio::test]
    async fn only_loopback_and_configured_registries_may_go_without_tls() {
        for address in ["127.0.0.1:5000", "127.3.2.1", "localhost", "localhost:5000", "[::1]:5000"] {
            assert!(insecure(address, &[]).await, "{address}");
        }
        for address in ["registry-1.docker.io", "10.0.0.1:5000", "[fe80::1]:5000", "localhost.example.com"] {
            assert!(!insecure(address, &[]).await, "{address}");
        }
        assert!(insecure("10.0.0.1:5000", &["10.0.0.0/8"]).await);
        assert!(insecure("reg.example:5000", &["reg.example:5000"]).await);
        assert!(!insecure("reg.example:5001", &["reg.example:5000"]).await);
        assert!(!insecure("11.0.0.1", &["10.0.0.0/8"]).await);
    }

    #[test]
    fn hosts() {
        for (address, host) in [("a:1", "a"), ("a", "a"), ("[::1]:5", "::1"), ("[::1]", "::1")] {
            assert_eq!(host_of(address), host);
        }
    }
}

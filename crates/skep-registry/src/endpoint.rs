//! How a host may be spoken to: addresses and clients.
//!
//! A registry is secure (TLS with a certificate that checks out) unless it is on loopback or configured as insecure; those are
//! tried with TLS first, with any certificate, and with plain HTTP if that gets no answer. Docker Hub's name is not its address.
//! A host that is configured with a scheme is spoken to in this way only.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, NoProxy, Proxy};
use url::Url;

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

fn is_loopback(host: &str) -> bool {
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Authorities,
    Anything,
}

fn client(config: &RegistryConfig, address: &str, host: &Host, trust: Trust, access: Access) -> Result<Client> {
    let mut builder = Client::builder()
        .user_agent(&config.user_agent)
        .connect_timeout(host.connect_timeout.unwrap_or(config.connect_timeout))
        .referer(false);
    builder = match access {
        // The time counts from the beginning of a request, so a long upload would not end; it watches over itself.
        Access::Push => builder.redirect(Policy::limited(MAX_REDIRECTS)),
        Access::Pull => builder.redirect(within_host()).read_timeout(config.stall_timeout),
    };
    builder = proxied(builder, config, address)?;
    let mut certificates = Certificates::read(&config.certificate_dirs, address)?;
    certificates.add(&host.tls)?;
    builder = match trust {
        Trust::Anything => builder.tls_danger_accept_invalid_certs(true),
        Trust::Authorities => builder.tls_certs_merge(certificates.authorities),
    };
    if let Some(identity) = certificates.identity {
        builder = builder.identity(identity);
    }
    builder.build().map_err(|e| {
        let reason = crate::transport::innermost(&e);
        RegistryError::Setup(format!(
            "cannot set up TLS for registry {address}: {reason} (are ca-certificates installed?)"
        ))
    })
}

/// Redirects are followed within a host. Those to others are left to `Inner::exchange`, which knows what they must not see.
fn within_host() -> Policy {
    Policy::custom(|attempt| {
        let last = attempt.previous().last().map(Url::origin);
        match attempt.previous().len() > MAX_REDIRECTS {
            true => attempt.error("redirects without end"),
            false if last == Some(attempt.url().origin()) => attempt.follow(),
            false => attempt.stop(),
        }
    })
}

/// How often a request is sent on before that counts as a loop; Go's bound.
pub(crate) const MAX_REDIRECTS: usize = 10;

fn proxied(
    mut builder: reqwest::ClientBuilder,
    config: &RegistryConfig,
    address: &str,
) -> Result<reqwest::ClientBuilder> {
    if is_loopback(host_of(address)) {
        return Ok(builder.no_proxy());
    }
    let Some(proxies) = &config.proxies else { return Ok(builder) };
    builder = builder.no_proxy();
    let none = proxies.none.as_deref().and_then(NoProxy::from_string);
    // Not shown: a proxy's address may hold a password.
    let wrong = |_| RegistryError::Setup("the address of the proxy is not valid".to_owned());
    if let Some(url) = proxies.http.as_deref().filter(|url| !url.is_empty()) {
        builder = builder.proxy(Proxy::http(url).map_err(wrong)?.no_proxy(none.clone()));
    }
    if let Some(url) = proxies.https.as_deref().filter(|url| !url.is_empty()) {
        builder = builder.proxy(Proxy::https(url).map_err(wrong)?.no_proxy(none));
    }
    Ok(builder)
}

/// What is in a registry's directory of certificates.
#[derive(Default)]
struct Certificates {
    authorities: Vec<Certificate>,
    identity: Option<Identity>,
}

impl Certificates {
    fn read(dirs: &[PathBuf], address: &str) -> Result<Self> {
        let mut found = Certificates::default();
        // An address follows the grammar of references, so it has no slash and can't be `..`.
        for dir in dirs.iter().map(|dir| dir.join(address)) {
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
            paths.sort();
            for path in &paths {
                match path.extension().and_then(|e| e.to_str()) {
                    Some("crt") => found
                        .authorities
                        .extend(Certificate::from_pem_bundle(&read(path)?).map_err(|e| broken(path, &e.to_string()))?),
                    Some("cert") => found.identity = Some(identity(path, &path.with_extension("key"))?),
                    Some("key") if !path.with_extension("cert").exists() => {
                        let (cert, key) = (path.with_extension("cert"), path.display());
                        let missing = format!("missing client certificate {} for key {key}", cert.display());
                        return Err(RegistryError::Setup(missing));
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }
}

impl Certificates {
    /// Those that `hosts.toml` names. A client certificate named there counts before one that lies in the directory.
    fn add(&mut self, tls: &crate::hosts::Tls) -> Result<()> {
        for path in &tls.authorities {
            let bundle = Certificate::from_pem_bundle(&read(path)?).map_err(|e| broken(path, &e.to_string()))?;
            self.authorities.extend(bundle);
        }
        if let Some((certificate, key)) = tls.identities.first() {
            self.identity = Some(identity(certificate, key.as_deref().unwrap_or(certificate))?);
        }
        Ok(())
    }
}

fn identity(path: &Path, key: &Path) -> Result<Identity> {
    if !key.exists() {
        let (cert, key) = (path.display(), key.display());
        return Err(RegistryError::Setup(format!("missing key {key} for client certificate {cert}")));
    }
    let mut pem = read(path)?;
    pem.push(b'\n');
    if key != path {
        pem.extend(read(key)?);
    }
    Identity::from_pem(&pem).map_err(|e| broken(path, &e.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| broken(path, &e.to_string()))
}

fn broken(path: &Path, reason: &str) -> RegistryError {
    RegistryError::Setup(format!("{}: {reason}", path.display()))
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

//! Where a registry is and how it may be spoken to.
//!
//! A registry is secure (TLS with a certificate that checks out) unless it is on loopback or configured as insecure; those are
//! tried with TLS first, with any certificate, and with plain HTTP if that gets no answer. Docker Hub's name is not its address.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use reqwest::{Certificate, Client, Identity};
use url::Url;

use crate::repository::Access;
use crate::{RegistryConfig, RegistryError, Result};

/// One way to speak to a registry.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// `https://host:port/`.
    pub(crate) base: Url,
    pub(crate) client: Client,
}

/// The ways to try, in order.
pub(crate) async fn candidates(config: &RegistryConfig, registry: &str, access: Access) -> Result<Vec<Endpoint>> {
    let address = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let base = |scheme: &str| {
        Url::parse(&format!("{scheme}://{address}/"))
            .map_err(|e| RegistryError::Setup(format!("registry address {address:?}: {e}")))
    };
    if !is_insecure(config, address).await {
        return Ok(vec![Endpoint {
            base: base("https")?,
            client: client(config, address, Trust::Authorities, access)?,
        }]);
    }
    let client = client(config, address, Trust::Anything, access)?;
    Ok(vec![Endpoint { base: base("https")?, client: client.clone() }, Endpoint { base: base("http")?, client }])
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

fn client(config: &RegistryConfig, address: &str, trust: Trust, access: Access) -> Result<Client> {
    let mut builder = Client::builder()
        .user_agent(&config.user_agent)
        .connect_timeout(config.connect_timeout)
        .referer(false)
        .redirect(reqwest::redirect::Policy::limited(10));
    if access == Access::Pull {
        // The time counts from the beginning of a request, so a long upload would not end; it watches over itself.
        builder = builder.read_timeout(config.stall_timeout);
    }
    if is_loopback(host_of(address)) {
        builder = builder.no_proxy();
    }
    let certificates = Certificates::read(&config.certificate_dirs, address)?;
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

/// What is in a registry's directory of certificates.
#[derive(Default)]
struct Certificates {
    authorities: Vec<Certificate>,
    identity: Option<Identity>,
}

impl Certificates {
    fn read(dirs: &[std::path::PathBuf], address: &str) -> Result<Self> {
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
                    Some("cert") => found.identity = Some(identity(path)?),
                    _ => {}
                }
            }
        }
        Ok(found)
    }
}

fn identity(path: &Path) -> Result<Identity> {
    let key = path.with_extension("key");
    if !key.exists() {
        let (cert, key) = (path.display(), key.display());
        return Err(RegistryError::Setup(format!("missing key {key} for client certificate {cert}")));
    }
    let mut pem = read(path)?;
    pem.push(b'\n');
    pem.extend(read(&key)?);
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

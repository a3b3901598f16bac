//! HTTP clients for hosts: certificates, proxies, timeouts. They are shared, see [`crate::shared`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, NoProxy, Proxy};

use crate::endpoint::{host_of, is_loopback};
use crate::hosts::{Host, Tls};
use crate::repository::Access;
use crate::shared::{ClientKey, Fingerprint, Route, system_authorities};
use crate::{RegistryConfig, RegistryError, Result};

/// How often a request is sent on before that counts as a loop; Go's bound.
pub(crate) const MAX_REDIRECTS: usize = 10;
/// An open connection that nobody uses is closed after so long, before servers and what stands between would.
const KEPT_OPEN: Duration = Duration::from_secs(30);
/// Open connections that wait for use, per host.
const IDLE_CONNECTIONS: usize = 8;

/// Which certificates of a server are good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Those of authorities: the system's, and those that are configured.
    Authorities,
    Anything,
}

/// The client for a host.
pub(crate) fn client(
    config: &RegistryConfig,
    address: &str,
    host: &Host,
    trust: Trust,
    access: Access,
) -> Result<Client> {
    let mut certificates = Certificates::read(&config.certificate_dirs, address)?;
    certificates.add(&host.tls)?;
    let key = ClientKey {
        user_agent: config.user_agent.clone(),
        connect_timeout: host.connect_timeout.unwrap_or(config.connect_timeout),
        // The time counts from the beginning of a request, so a long upload would not end; it watches over itself.
        read_timeout: (access == Access::Pull).then_some(config.stall_timeout),
        route: match &config.proxies {
            _ if is_loopback(host_of(address)) => Route::Direct,
            Some(proxies) => Route::Proxies(proxies.clone()),
            None => Route::Environment,
        },
        trusting: trust == Trust::Anything,
        certificates: certificates.fingerprint(),
        system: if trust == Trust::Authorities { system_authorities() } else { Vec::new() },
    };
    config.shared.client(key.clone(), || build(&key, certificates, address))
}

fn build(key: &ClientKey, certificates: Certificates, address: &str) -> Result<Client> {
    let mut builder = Client::builder()
        .user_agent(&key.user_agent)
        .connect_timeout(key.connect_timeout)
        .pool_idle_timeout(KEPT_OPEN)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .referer(false);
    builder = match key.read_timeout {
        None => builder.redirect(Policy::limited(MAX_REDIRECTS)),
        Some(time) => builder.redirect(within_host()).read_timeout(time),
    };
    builder = routed(builder, &key.route)?;
    let authorities = certificates.authorities()?;
    builder = match key.trusting {
        true => builder.tls_danger_accept_invalid_certs(true),
        false => builder.tls_certs_merge(authorities),
    };
    if let Some(identity) = certificates.identity()? {
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
        let last = attempt.previous().last().map(reqwest::Url::origin);
        match attempt.previous().len() > MAX_REDIRECTS {
            true => attempt.error("redirects without end"),
            false if last == Some(attempt.url().origin()) => attempt.follow(),
            false => attempt.stop(),
        }
    })
}

fn routed(mut builder: reqwest::ClientBuilder, route: &Route) -> Result<reqwest::ClientBuilder> {
    let proxies = match route {
        Route::Direct => return Ok(builder.no_proxy()),
        Route::Environment => return Ok(builder),
        Route::Proxies(proxies) => proxies,
    };
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

/// The certificates that are configured for a host, as they are in their files.
#[derive(Default)]
struct Certificates {
    authorities: Vec<(PathBuf, Vec<u8>)>,
    /// Certificate and key in one.
    identity: Option<(PathBuf, Vec<u8>)>,
}

impl Certificates {
    /// Those in a registry's directory.
    fn read(dirs: &[PathBuf], address: &str) -> Result<Self> {
        let mut found = Certificates::default();
        // An address follows the grammar of references, so it has no slash and can't be `..`.
        for dir in dirs.iter().map(|dir| dir.join(address)) {
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
            paths.sort();
            for path in &paths {
                match path.extension().and_then(|e| e.to_str()) {
                    Some("crt") => found.authorities.push((path.clone(), read(path)?)),
                    Some("cert") => found.identity = Some(pair(path, &path.with_extension("key"))?),
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

    /// Those that `hosts.toml` names. A client certificate named there counts before one that lies in the directory.
    fn add(&mut self, tls: &Tls) -> Result<()> {
        for path in &tls.authorities {
            self.authorities.push((path.clone(), read(path)?));
        }
        if let Some((certificate, key)) = tls.identities.first() {
            self.identity = Some(pair(certificate, key.as_deref().unwrap_or(certificate))?);
        }
        Ok(())
    }

    fn fingerprint(&self) -> Fingerprint {
        let identity = self.identity.as_ref().map_or(&[][..], |(_, pem)| pem);
        Fingerprint::of(std::iter::once(identity).chain(self.authorities.iter().map(|(_, pem)| &pem[..])))
    }

    fn authorities(&self) -> Result<Vec<Certificate>> {
        let bundles = self
            .authorities
            .iter()
            .map(|(path, pem)| Certificate::from_pem_bundle(pem).map_err(|e| broken(path, &e.to_string())));
        Ok(bundles.collect::<Result<Vec<_>>>()?.concat())
    }

    fn identity(&self) -> Result<Option<Identity>> {
        let parse =
            |(path, pem): &(PathBuf, Vec<u8>)| Identity::from_pem(pem).map_err(|e| broken(path, &e.to_string()));
        self.identity.as_ref().map(parse).transpose()
    }
}

fn pair(path: &Path, key: &Path) -> Result<(PathBuf, Vec<u8>)> {
    if !key.exists() {
        let (cert, key) = (path.display(), key.display());
        return Err(RegistryError::Setup(format!("missing key {key} for client certificate {cert}")));
    }
    let mut pem = read(path)?;
    pem.push(b'\n');
    if key != path {
        pem.extend(read(key)?);
    }
    Ok((path.to_owned(), pem))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| broken(path, &e.to_string()))
}

fn broken(path: &Path, reason: &str) -> RegistryError {
    RegistryError::Setup(format!("{}: {reason}", path.display()))
}

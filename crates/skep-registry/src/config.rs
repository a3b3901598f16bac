//! How the client speaks to registries.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::Shared;
use crate::login::registry_of;

/// Settings of the client, fixed for its lifetime.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// Registries that may be spoken to without TLS or with any certificate, besides loopback: `host[:port]` or a CIDR range.
    pub insecure: Vec<String>,
    /// Directories with `HOST[:PORT]/*.crt` (certificate authorities), `*.cert` with `*.key` (client certificates), and `hosts.toml`.
    pub certificate_dirs: Vec<PathBuf>,
    /// Mirrors of Docker Hub, asked before it: addresses with scheme.
    pub mirrors: Vec<String>,
    /// Proxies; without, those of the environment (`HTTPS_PROXY` and so on).
    pub proxies: Option<Proxies>,
    /// Layers downloaded at once, per pull.
    pub max_concurrent_downloads: usize,
    /// Layers uploaded at once, per push.
    pub max_concurrent_uploads: usize,
    /// How often a download is begun before it fails for good.
    pub max_download_attempts: u32,
    /// For making a connection.
    pub connect_timeout: Duration,
    /// Longest silence of a server, before its answer and within it.
    pub stall_timeout: Duration,
    /// The only hosts that credentials may be sent to for a token; any that a registry names, without.
    pub token_hosts: Option<Vec<String>>,
    /// Sent as User-Agent.
    pub user_agent: String,
    /// Connections and tokens, which all that use this configuration or a clone of it have in common.
    pub shared: Shared,
}

/// Proxies on the way to registries. Loopback addresses are never asked for through one.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Proxies {
    /// For plain HTTP.
    pub http: Option<String>,
    /// For HTTPS.
    pub https: Option<String>,
    /// Hosts, domains and ranges that are reached without, separated by commas.
    pub none: Option<String>,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The addresses may hold passwords.
        f.debug_struct("Proxies").field("none", &self.none).finish_non_exhaustive()
    }
}

impl Default for RegistryConfig {
    fn default() -> Self {
        RegistryConfig {
            insecure: Vec::new(),
            certificate_dirs: ["/etc/skep/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d"]
                .map(PathBuf::from)
                .to_vec(),
            mirrors: Vec::new(),
            proxies: None,
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            max_download_attempts: 5,
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
            token_hosts: None,
            user_agent: concat!("skep/", env!("CARGO_PKG_VERSION")).to_owned(),
            shared: Shared::default(),
        }
    }
}

/// Credentials for a registry (Docker's `X-Registry-Auth`). All empty means anonymous.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// A refresh token of the registry's authorization service, used instead of a password.
    pub identity_token: String,
    /// A bearer token to be sent as it is.
    pub registry_token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Credentials for several registries, as a client's configuration has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring(BTreeMap<String, Credentials>);

impl Keyring {
    /// Adds those for a server: `host[:port]`, or an address with scheme and path as older clients write it.
    pub fn add(&mut self, server: &str, credentials: Credentials) {
        self.0.insert(registry_of(server), credentials);
    }

    /// Those for a registry, as references name it.
    pub fn find(&self, registry: &str) -> Option<&Credentials> {
        self.0.get(registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_by_the_names_in_references() {
        let mut keyring = Keyring::default();
        let named = |name: &str| Credentials { username: name.to_owned(), ..Credentials::default() };
        keyring.add("https://index.docker.io/v1/", named("hub"));
        keyring.add("reg.example:5000", named("own"));
        let name = |registry: &str| keyring.find(registry).map(|found| found.username.as_str());
        assert_eq!(
            [name("docker.io"), name("reg.example:5000"), name("reg.example")],
            [Some("hub"), Some("own"), None]
        );
    }
}

//! Which registries a cache stands in front of, from a file.
//!
//! ```json
//! {"manifestTtl": "5m", "upstreams": [
//!   {"prefix": "hub/", "registry": "docker.io", "username": "ana", "passwordFile": "/etc/hub.password"},
//!   {"registry": "registry.example.com", "tokenHosts": ["auth.example.com"]}
//! ]}
//! ```
//! The upstream with the longest prefix that a repository's name begins with counts; one without a prefix takes all names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use skep_registry::{Credentials, RegistryConfig};

/// How long a tag is served without asking again, unless the file says.
const TTL: Duration = Duration::from_secs(300);

/// A cache's upstreams.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// The longest prefix first.
    pub upstreams: Vec<Upstream>,
    /// How long a tag is served without asking again.
    pub manifest_ttl: Duration,
    /// How the client speaks to them; connections and tokens are shared by all who have this configuration.
    pub(crate) client: RegistryConfig,
    /// Where it was read.
    file: PathBuf,
}

/// A registry that is copied from.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// What names of its repositories begin with here.
    pub prefix: String,
    /// Its host and port; `docker.io` for Docker Hub.
    pub registry: String,
    /// It may be spoken to without TLS, or with any certificate.
    pub insecure: bool,
    /// For private repositories.
    pub credentials: Option<Credentials>,
    /// Where credentials may be sent for a token, besides the registry itself.
    pub token_hosts: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    manifest_ttl: Option<String>,
    upstreams: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    prefix: String,
    registry: String,
    #[serde(default)]
    insecure: bool,
    username: Option<String>,
    password_file: Option<PathBuf>,
    #[serde(default)]
    token_hosts: Vec<String>,
}

/// Why a file of upstreams can't be used.
#[derive(Debug, thiserror::Error)]
#[error("upstreams {path}: {reason}", path = path.display())]
pub struct CacheError {
    path: PathBuf,
    reason: String,
}

impl CacheConfig {
    /// Reads a file of upstreams.
    pub fn read(path: &Path) -> Result<Self, CacheError> {
        let fail = |reason: String| CacheError { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        let file: File = serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))?;
        let ttl = file.manifest_ttl.map(|text| skep_types::parse_go_duration(&text)).transpose();
        let upstreams: Result<Vec<Upstream>, String> = file.upstreams.into_iter().map(Entry::checked).collect();
        let mut upstreams = upstreams.map_err(fail)?;
        // The longest prefix counts, whatever the order in the file.
        upstreams.sort_by_key(|upstream| std::cmp::Reverse(upstream.prefix.len()));
        let manifest_ttl = ttl.map_err(|error| fail(error.to_string()))?.unwrap_or(TTL);
        let client = client(&upstreams);
        Ok(CacheConfig { upstreams, manifest_ttl, client, file: path.to_owned() })
    }

    /// What its file holds now.
    pub(crate) fn read_again(&self) -> Result<Self, CacheError> {
        Self::read(&self.file)
    }
}

fn client(upstreams: &[Upstream]) -> RegistryConfig {
    let insecure = upstreams.iter().filter(|upstream| upstream.insecure);
    RegistryConfig {
        insecure: insecure.map(|upstream| upstream.registry.clone()).collect(),
        connect_timeout: Duration::from_secs(10),
        user_agent: concat!("skep-registry/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..RegistryConfig::default()
    }
}

impl Entry {
    fn checked(self) -> Result<Upstream, String> {
        let credentials = match (self.username, self.password_file) {
            (None, None) => None,
            (Some(username), Some(file)) => {
                let password =
                    std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                let password = password.trim_end_matches(['\r', '\n']).to_owned();
                Some(Credentials { username, password, ..Credentials::default() })
            }
            _ => return Err(format!("{}: username and passwordFile need each other", self.registry)),
        };
        if format!("{}/a", self.registry).parse::<skep_types::Reference>().is_err() {
            return Err(format!("{:?} is no registry", self.registry));
        }
        if !self.prefix.is_empty() && format!("{}a", self.prefix).parse::<crate::name::RepositoryName>().is_err() {
            return Err(format!("{:?} is no beginning of a repository's name", self.prefix));
        }
        let Entry { prefix, registry, insecure, token_hosts, .. } = self;
        Ok(Upstream { prefix, registry, insecure, credentials, token_hosts })
    }
}

impl Upstream {
    /// Where credentials may go: to the registry, to Docker Hub's own service for Docker Hub, and where the file says.
    pub(crate) fn token_hosts(&self) -> Vec<String> {
        let host = self.registry.rsplit_once(':').map_or(self.registry.as_str(), |(host, _)| host);
        let own = if self.registry == "docker.io" { "auth.docker.io" } else { host };
        std::iter::once(own.to_owned()).chain(self.token_hosts.iter().cloned()).collect()
    }
}

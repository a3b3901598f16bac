//! Credentials as `config.json` holds them, and finding those for a server. Pure: the fuzz target `credentials` has this file, too.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use skep_wire::AuthConfig;

/// Docker Hub as a key of credentials.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";

/// An entry of `auths`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StoredAuth {
    /// `user:password` in base64.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) auth: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) password: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) identitytoken: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) registrytoken: String,
}

impl std::fmt::Debug for StoredAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredAuth")
    }
}

impl StoredAuth {
    /// The entry for credentials that the file itself keeps.
    pub(crate) fn of(auth: &AuthConfig) -> Self {
        StoredAuth {
            auth: STANDARD.encode(format!("{}:{}", auth.username, auth.password)),
            identitytoken: auth.identitytoken.clone(),
            registrytoken: auth.registrytoken.clone(),
            ..StoredAuth::default()
        }
    }
}

/// The credentials for a server, if there are any that can be read.
pub(crate) fn lookup(auths: &BTreeMap<String, StoredAuth>, server: &str) -> Option<AuthConfig> {
    let (_, stored) = auths
        .get_key_value(server)
        .or_else(|| auths.iter().find(|(key, _)| server != HUB && host_of(key) == server))?;
    let (username, password) = match stored.auth.as_str() {
        "" => (stored.username.clone(), stored.password.clone()),
        pair => decode_pair(pair)?,
    };
    Some(AuthConfig {
        username,
        password,
        identitytoken: stored.identitytoken.clone(),
        registrytoken: stored.registrytoken.clone(),
        serveraddress: server.to_owned(),
        ..AuthConfig::default()
    })
}

/// `https://host/v1/` and `host` mean the same registry.
pub(crate) fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

fn decode_pair(text: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(text.trim()).ok()?;
    let pair = String::from_utf8(bytes).ok()?;
    let (username, password) = pair.split_once(':')?;
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

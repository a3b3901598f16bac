//! The client's config file, `~/.docker/config.json`: the keys that skep's commands look at.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use skep_wire::AuthConfig;

use crate::ui;

/// Defaults that a user keeps in a file. Unknown keys belong to others.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ConfigFile {
    pub(crate) detach_keys: Option<String>,
    pub(crate) ps_format: Option<String>,
    pub(crate) images_format: Option<String>,
    pub(crate) stats_format: Option<String>,
    pub(crate) volumes_format: Option<String>,
    pub(crate) networks_format: Option<String>,
    auths: BTreeMap<String, AuthConfig>,
}

impl ConfigFile {
    /// Reads the file; a missing one is empty, a broken one is reported and ignored.
    pub(crate) fn load(dir: &Path) -> Self {
        let path = dir.join("config.json");
        let Ok(bytes) = std::fs::read(&path) else { return ConfigFile::default() };
        serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            ui::error_line(&format!("WARNING: Error loading config file: {}: {error}", path.display()));
            ConfigFile::default()
        })
    }

    /// The value of `X-Registry-Auth` for a registry, if the file holds credentials for it.
    pub(crate) fn registry_auth(&self, registry: &str) -> Option<String> {
        const HUB_KEY: &str = "https://index.docker.io/v1/";
        let wanted = if registry == "docker.io" { HUB_KEY } else { registry };
        let (key, stored) = self.auths.iter().find(|(key, _)| *key == wanted || host_of(key) == wanted)?;
        let mut auth = stored.clone();
        if !auth.auth.is_empty() {
            let (username, password) = decode_pair(&auth.auth)?;
            (auth.username, auth.password, auth.auth) = (username, password, String::new());
        }
        if auth.serveraddress.is_empty() {
            key.clone_into(&mut auth.serveraddress);
        }
        Some(auth.to_header())
    }
}

/// `https://host/v1/` and `host` mean the same registry.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

fn decode_pair(text: &str) -> Option<(String, String)> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    let pair = String::from_utf8(bytes).ok()?;
    let (username, password) = pair.split_once(':')?;
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_by_host() {
        let config: ConfigFile = serde_json::from_str(
            r#"{"auths": {"reg.example:5000": {"auth": "bWU6c2VjcmV0"}, "https://other/v2/": {"username": "u"}}, "x": 1}"#,
        )
        .expect("good");
        let auth = AuthConfig::from_header(&config.registry_auth("reg.example:5000").expect("known")).expect("header");
        assert_eq!((auth.username.as_str(), auth.password.as_str()), ("me", "secret"));
        assert_eq!(auth.serveraddress, "reg.example:5000");
        assert!(config.registry_auth("other").is_some());
        assert_eq!(config.registry_auth("docker.io"), None);
    }
}

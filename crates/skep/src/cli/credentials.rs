//! Credentials for registries: found, kept and forgotten, in the config file or by a helper program.
//!
//! ```text
//! credHelpers[server], else credsStore ──► docker-credential-NAME      (helper)
//! neither ───────────────────────────────► auths[server] in config.json
//! ```
//! Helpers and the file name Docker Hub `https://index.docker.io/v1/`, and any other registry by host and port; older files have
//! addresses with a scheme and a path, too.

mod helper;
mod stored;

use skep_wire::{AuthConfig, AuthConfigs};

use super::config::ConfigFile;
use super::{Cli, Failure};
use crate::ui;
use helper::Helper;
use stored::lookup;
pub(crate) use stored::{HUB, StoredAuth, host_of};

/// Overrides the file, for one call: the JSON of `{"auths": …}`.
const ENVIRONMENT: &str = "DOCKER_AUTH_CONFIG";

/// The value of `X-Registry-Auth` for a registry (as in references); for none it says that there are no credentials.
pub(crate) fn registry_auth(cli: &Cli, registry: &str) -> String {
    let key = if registry == "docker.io" { HUB } else { registry };
    let found = find(cli.config(), key).unwrap_or_else(|failure| {
        // As Docker's client: the registry may do without.
        ui::error_line(&format!("WARNING: {}", failure.text));
        AuthConfig::default()
    });
    found.to_header()
}

/// The value of `X-Registry-Config`: the credentials for all registries that the config file names. One whose helper fails is left
/// out, after a warning: the others may be all that is needed.
pub(crate) fn registry_config(cli: &Cli) -> String {
    let config = cli.config();
    let servers: std::collections::BTreeSet<&String> = config.auths.keys().chain(config.cred_helpers.keys()).collect();
    let found = servers.into_iter().filter_map(|server| match find(config, server) {
        Ok(auth) => (auth != AuthConfig::default()).then(|| (server.clone(), auth)),
        Err(failure) => {
            ui::error_line(&format!("WARNING: {}", failure.text));
            None
        }
    });
    AuthConfigs(found.collect()).to_header()
}

/// The credentials for a server; empty if there are none.
pub(crate) fn find(config: &ConfigFile, server: &str) -> Result<AuthConfig, Failure> {
    if let Some(auth) = from_environment(server) {
        return Ok(auth);
    }
    let found = match helper_for(config, server) {
        Some(helper) => helper.get(server)?,
        None => lookup(&config.auths, server),
    };
    Ok(found.unwrap_or_default())
}

/// Keeps credentials under their `serveraddress`.
pub(crate) fn store(config: &ConfigFile, auth: &AuthConfig) -> Result<(), Failure> {
    let server = &auth.serveraddress;
    if let Some(helper) = helper_for(config, server) {
        helper.store(auth)?;
        // The entry without credentials says that there are some elsewhere.
        return config.store_auth(server, &StoredAuth::default());
    }
    config.store_auth(server, &StoredAuth::of(auth))?;
    if !auth.password.is_empty() {
        ui::error_line(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this \
             warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            config.path().display()
        ));
    }
    Ok(())
}

/// Forgets the credentials for a server. That there are none is no failure.
pub(crate) fn erase(config: &ConfigFile, server: &str) -> Result<(), Failure> {
    if let Some(helper) = helper_for(config, server) {
        helper.erase(server)?;
    }
    config.erase_auth(server)
}

fn helper_for(config: &ConfigFile, server: &str) -> Option<Helper> {
    let special = config.cred_helpers.get(server).filter(|name| !name.is_empty());
    let name = special.or(Some(&config.creds_store)).filter(|name| !name.is_empty())?;
    Some(Helper::new(name))
}

fn from_environment(server: &str) -> Option<AuthConfig> {
    let text = std::env::var(ENVIRONMENT).ok().filter(|text| !text.is_empty())?;
    let config: ConfigFile = serde_json::from_str(&text).ok()?;
    lookup(&config.auths, server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_by_host() {
        let config: ConfigFile = serde_json::from_str(
            r#"{"auths": {"reg.example:5000": {"auth": "bWU6c2VjcmV0"}, "https://other/v2/": {"username": "u"},
                "https://index.docker.io/v1/": {"auth": "aHViOg==", "identitytoken": "t"}}, "x": 1}"#,
        )
        .expect("good");
        let auth = find(&config, "reg.example:5000").expect("no helper");
        assert_eq!((auth.username.as_str(), auth.password.as_str()), ("me", "secret"));
        assert_eq!(auth.serveraddress, "reg.example:5000");
        assert_eq!(find(&config, "other").expect("no helper").username, "u");
        assert_eq!(find(&config, HUB).expect("no helper").identitytoken, "t");
        assert_eq!(find(&config, "nope").expect("no helper"), AuthConfig::default());
    }

    #[test]
    fn a_registrys_own_helper_wins() {
        let config: ConfigFile =
            serde_json::from_str(r#"{"credsStore": "all", "credHelpers": {"a:1": "own", "b": ""}}"#).expect("good");
        let program = |server: &str| helper_for(&config, server).map(|helper| helper.program().to_owned());
        assert_eq!(program("a:1").as_deref(), Some("docker-credential-own"));
        assert_eq!(program("b").as_deref(), Some("docker-credential-all"));
    }
}

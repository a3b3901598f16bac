//! Whether credentials are good: what `docker login` asks the daemon.

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use url::Url;

use crate::auth::Auth;
use crate::endpoint::candidates;
use crate::repository::{Access, go_method, refusal};
use crate::transport::failed;
use crate::{Credentials, RegistryConfig, RegistryError, Result};

/// Asks the registry whether it takes the credentials. Returns the refresh token to be kept instead of the password, if its
/// authorization service gave one.
///
/// `server` is what users and `config.json` write: a host, or an address with scheme and path; empty for Docker Hub.
pub async fn login(config: &RegistryConfig, server: &str, credentials: Credentials) -> Result<Option<String>> {
    let mut last = None;
    let registry = registry_of(server);
    for endpoint in candidates(config, &registry, Access::Pull).await? {
        let url = endpoint.root.clone();
        let auth = Auth::new(endpoint.client.clone(), credentials.clone(), None, &endpoint.base).offline();
        match try_login(&endpoint.client, &auth, &url).await {
            Err(e @ RegistryError::Transport { .. }) => last = Some(e),
            Err(e @ (RegistryError::Token { .. } | RegistryError::NoCredentials { .. })) => {
                return Err(RegistryError::LoginRefused(Box::new(e)));
            }
            Err(e) => return Err(e),
            Ok(()) => return Ok(auth.identity_token().await),
        }
    }
    Err(last.unwrap_or_else(|| RegistryError::Setup(format!("no endpoints found for {registry}"))))
}

async fn try_login(client: &reqwest::Client, auth: &Auth, url: &Url) -> Result<()> {
    let send = async |authorization| {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(reqwest::header::AUTHORIZATION, value);
        }
        match client.get(url.clone()).headers(headers).send().await {
            Ok(response) => Ok(response),
            Err(e) => Err(failed(go_method(&Method::GET), url, e).await),
        }
    };
    let mut response = send(None).await?;
    if response.status() == StatusCode::UNAUTHORIZED {
        auth.refused(None, None, response.headers(), url).await?;
        response = send(auth.header(url, None).await?).await?;
    }
    let status = response.status();
    match status.as_u16() {
        200 => Ok(()),
        401 | 403 => Err(RegistryError::Login { url: url.to_string(), status: status.to_string() }),
        _ => Err(refusal(response).await),
    }
}

/// The registry that a server's address means: `https://host:port/v1/` is `host:port`.
pub fn registry_of(server: &str) -> String {
    let rest = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    let host = rest.split('/').next().unwrap_or(rest);
    match host {
        "" | "index.docker.io" | "docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_written_in_many_ways() {
        for (server, registry) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("reg.example:5000", "reg.example:5000"),
            ("http://reg.example:5000/v2/", "reg.example:5000"),
            ("https://reg.example", "reg.example"),
        ] {
            assert_eq!(registry_of(server), registry, "{server}");
        }
    }
}

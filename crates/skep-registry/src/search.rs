//! Searching a registry by the first version of its API, which Docker Hub and a few others still answer.

use base64::Engine as _;
use reqwest::header::AUTHORIZATION;
use reqwest::{Client, Url};
use serde::Deserialize;

use crate::endpoint::{Endpoint, candidates};
use crate::repository::Access;
use crate::transport::{failed, read_body};
use crate::{Credentials, RegistryConfig, RegistryError, Result};

/// The largest answer that is read.
const MAX_ANSWER: u64 = 4 << 20;
/// Results of a search that asks for no number.
const DEFAULT_LIMIT: u32 = 25;
/// The most results that can be asked for.
const MAX_LIMIT: u32 = 100;

/// A repository that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// As it can be pulled.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// How many like it.
    pub star_count: i64,
    /// It is one of Docker Hub's own.
    pub is_official: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<Found>,
}

/// Searches the registry that `term` begins with, else Docker Hub. `limit` 0 stands for 25.
pub async fn search(config: &RegistryConfig, term: &str, limit: u32, credentials: &Credentials) -> Result<Vec<Found>> {
    if term.contains("://") {
        return Err(RegistryError::Query(format!(
            "invalid repository name: repository name ({term}) should not have a scheme"
        )));
    }
    let limit = if limit == 0 { DEFAULT_LIMIT } else { limit };
    if limit > MAX_LIMIT {
        return Err(RegistryError::Query(format!("limit {limit} is outside the range of [1, {MAX_LIMIT}]")));
    }
    let (registry, words) = split(term);
    let mut last = None;
    for Endpoint { mut base, client, .. } in candidates(config, registry, Access::Pull).await? {
        if registry == "docker.io" {
            // The index is not where the images are.
            base = Url::parse("https://index.docker.io/").map_err(|e| RegistryError::Setup(e.to_string()))?;
        }
        match ask(&client, &base, words, limit, credentials).await {
            Err(e @ RegistryError::Transport { .. }) => last = Some(e),
            result => return result,
        }
    }
    Err(last.unwrap_or_else(|| RegistryError::Setup(format!("no endpoints found for {registry}"))))
}

/// The registry and what to look for there.
fn split(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | "index.docker.io" => ("docker.io", rest.strip_prefix("library/").unwrap_or(rest)),
            host => (host, rest),
        },
        _ => ("docker.io", term.strip_prefix("library/").unwrap_or(term)),
    }
}

async fn ask(client: &Client, base: &Url, words: &str, limit: u32, credentials: &Credentials) -> Result<Vec<Found>> {
    let mut url = base.join("v1/search").map_err(|e| RegistryError::Setup(e.to_string()))?;
    url.query_pairs_mut().append_pair("q", words).append_pair("n", &limit.to_string());
    let mut request = client.get(url.clone());
    if !credentials.username.is_empty() {
        let pair = format!("{}:{}", credentials.username, credentials.password);
        let pair = base64::engine::general_purpose::STANDARD.encode(pair);
        request = request.header(AUTHORIZATION, crate::auth::secret(format!("Basic {pair}"))?);
    }
    let response = match request.send().await {
        Ok(response) => response,
        Err(e) => return Err(failed("Get", &url, e).await),
    };
    if !response.status().is_success() {
        return Err(RegistryError::Query(format!("Unexpected status code {}", response.status().as_u16())));
    }
    let body = read_body(response, MAX_ANSWER, "answer of the registry").await?;
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|e| RegistryError::Query(format!("error unmarshalling search results: {e}")))?;
    Ok(answer.results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_may_name_a_registry() {
        for (term, want) in [
            ("busybox", ("docker.io", "busybox")),
            ("library/busybox", ("docker.io", "busybox")),
            ("some/app", ("docker.io", "some/app")),
            ("docker.io/library/x", ("docker.io", "x")),
            ("localhost/x", ("localhost", "x")),
            ("reg:5000/a/b", ("reg:5000", "a/b")),
        ] {
            assert_eq!(split(term), want, "{term}");
        }
    }
}

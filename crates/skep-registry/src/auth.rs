//! Authentication: none, basic, or tokens from the service that the registry names (distribution's token specification).
//!
//! ```text
//! ping ── 200 ──────────────► no header
//!   └─── 401 + challenge ──► basic:  header from name and password
//!                            bearer: GET realm?service&scope (or POST with a refresh token) ──► header, until it expires
//! request ── 401 again ────► the token is dropped and fetched anew, once
//! ```

use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use crate::challenge::{Challenge, bearer_error, challenges};
use crate::error::from_answer;
use crate::transport::{failed, read_body};
use crate::{Credentials, RegistryError, Result};

/// The largest answer of a token service.
const MAX_TOKEN_ANSWER: u64 = 1 << 20;
/// A token is renewed so long before it expires.
const MARGIN: Duration = Duration::from_secs(10);
/// How long a token is good for when its service doesn't say; distribution's default.
const DEFAULT_LIFETIME: u64 = 60;

/// Credentials and tokens for one repository.
#[derive(Debug)]
pub(crate) struct Auth {
    client: Client,
    credentials: Credentials,
    scope: String,
    /// The registry itself is reached by TLS: then passwords go nowhere without.
    encrypted: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    challenge: Option<Challenge>,
    header: Option<HeaderValue>,
    expires: Option<Instant>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Auth {
    pub(crate) fn new(client: Client, credentials: Credentials, repository: &str, base: &Url) -> Self {
        let scope = format!("repository:{repository}:pull");
        Auth { client, credentials, scope, encrypted: base.scheme() == "https", state: Mutex::default() }
    }

    /// The header for the next request.
    pub(crate) async fn header(&self, target: &Url) -> Result<Option<HeaderValue>> {
        let mut state = self.state.lock().await;
        if state.expires.is_some_and(|at| at <= Instant::now() + MARGIN) {
            state.header = None;
        }
        if state.header.is_none() {
            self.authenticate(&mut state, target).await?;
        }
        Ok(state.header.clone())
    }

    /// The registry answered 401 to a request that was sent with `used`. Returns whether to try again.
    pub(crate) async fn refused(&self, used: Option<&HeaderValue>, headers: &HeaderMap, target: &Url) -> Result<bool> {
        let mut state = self.state.lock().await;
        if state.header.as_ref() != used {
            return Ok(true);
        }
        let offered = challenges(headers);
        let usable = |scheme: &str| offered.iter().find(|c| c.scheme == scheme).cloned();
        let Some(challenge) = usable("bearer").or_else(|| usable("basic")) else { return Ok(false) };
        if challenge.scheme == "basic" && used.is_some() {
            return Ok(false);
        }
        *state = State { challenge: Some(challenge), header: None, expires: None };
        self.authenticate(&mut state, target).await?;
        Ok(state.header.is_some() && state.header.as_ref() != used)
    }

    async fn authenticate(&self, state: &mut State, target: &Url) -> Result<()> {
        if !self.credentials.registry_token.is_empty() {
            state.header = Some(secret(format!("Bearer {}", self.credentials.registry_token))?);
            return Ok(());
        }
        match &state.challenge {
            None => Ok(()),
            Some(challenge) if challenge.scheme == "basic" => {
                if self.credentials.username.is_empty() {
                    return Err(RegistryError::NoCredentials { method: "Get", url: target.to_string() });
                }
                state.header = Some(self.basic()?);
                Ok(())
            }
            Some(challenge) => {
                let (token, lifetime) = self.fetch_token(challenge).await?;
                state.header = Some(secret(format!("Bearer {token}"))?);
                state.expires = Instant::now().checked_add(lifetime);
                Ok(())
            }
        }
    }

    fn basic(&self) -> Result<HeaderValue> {
        let Credentials { username, password, .. } = &self.credentials;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
        secret(format!("Basic {pair}"))
    }

    async fn fetch_token(&self, challenge: &Challenge) -> Result<(String, Duration)> {
        let (request, realm) = self.token_request(challenge)?;
        let response = match request.send().await {
            Ok(response) => response,
            Err(e) => return Err(failed("Get", &realm, e).await),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_body(response, MAX_TOKEN_ANSWER, "answer of the authorization server").await?;
        if !status.is_success() {
            return Err(from_answer(status.as_u16(), &status.to_string(), bearer_error(&headers), &body));
        }
        let answer: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|e| RegistryError::Challenge(format!("unable to decode token response: {e}")))?;
        let token = answer.token.or(answer.access_token).filter(|t| !t.is_empty()).ok_or(RegistryError::NoToken)?;
        let lifetime = answer.expires_in.unwrap_or(DEFAULT_LIFETIME).clamp(DEFAULT_LIFETIME, 86_400);
        Ok((token, Duration::from_secs(lifetime)))
    }

    /// The request for a token, and the address it goes to (without what is secret).
    fn token_request(&self, challenge: &Challenge) -> Result<(RequestBuilder, Url)> {
        let realm = challenge.parameter("realm").unwrap_or_default();
        let realm: Url = realm
            .parse()
            .map_err(|_| RegistryError::Challenge(format!("malformed realm in the registry's challenge: {realm:?}")))?;
        let anonymous = self.credentials.username.is_empty() && self.credentials.identity_token.is_empty();
        if !matches!(realm.scheme(), "https" | "http") || (realm.scheme() == "http" && self.encrypted && !anonymous) {
            return Err(RegistryError::Challenge(format!("refusing to send credentials to {realm}")));
        }
        let service = challenge.parameter("service").unwrap_or_default();
        let scope = challenge.parameter("scope").filter(|s| !s.is_empty()).unwrap_or(&self.scope);
        if !self.credentials.identity_token.is_empty() {
            let form = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", "refresh_token")
                .append_pair("service", service)
                .append_pair("client_id", "skep")
                .append_pair("scope", scope)
                .append_pair("refresh_token", &self.credentials.identity_token)
                .finish();
            let request = self.client.post(realm.clone());
            let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(form);
            return Ok((request, realm));
        }
        let mut target = realm;
        target.query_pairs_mut().append_pair("service", service).append_pair("scope", scope);
        let mut request = self.client.get(target.clone());
        if !anonymous {
            request = request.header(AUTHORIZATION, self.basic()?);
        }
        Ok((request, target))
    }
}

fn secret(text: String) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| RegistryError::Challenge("credentials hold letters that a header can't carry".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

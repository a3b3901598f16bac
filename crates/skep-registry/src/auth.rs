//! Authentication: none, basic, or tokens from the service that the registry names (distribution's token specification).
//!
//! ```text
//! ping ── 200 ──────────────► no header
//!   └─── 401 + challenge ──► basic:  header from name and password
//!                            bearer: GET realm?service&scope (or POST with a refresh token) ──► header, until it expires
//! request ── 401 again ────► the token is dropped and fetched anew, once
//! ```
//!
//! A token that another connection got for the same with the same credentials is used first ([`crate::shared`]). Rights may have changed
//! since: when the registry refuses such a token, with 403 too, a new one is fetched before the refusal counts.
//!
//! A token is asked for what this connection is for (`repository:NAME:pull`, or `pull,push`), whatever scope a challenge names: that of
//! a ping names none, or a wrong one. A request that needs more (a mount reads another repository) has a token of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use crate::challenge::{Challenge, bearer_error, challenges};
use crate::error::from_answer;
use crate::shared::{Fingerprint, Shared, Token};
use crate::transport::{failed, read_body};
use crate::{Credentials, RegistryError, Result};

/// The largest answer of a token service.
const MAX_TOKEN_ANSWER: u64 = 1 << 20;
/// A token is renewed so long before it expires.
const MARGIN: Duration = Duration::from_secs(10);
/// How this program names itself to authorization services.
const CLIENT_ID: &str = "skep";
/// How long a token is good for when its service doesn't say; distribution's default.
const DEFAULT_LIFETIME: u64 = 60;

/// Credentials and tokens for one repository, or for a registry as a whole.
#[derive(Debug)]
pub(crate) struct Auth {
    client: Client,
    credentials: Credentials,
    /// What every token is asked for; empty for a login.
    scope: Option<String>,
    /// Also ask for a refresh token, to be kept instead of the password.
    offline: bool,
    /// The registry's address.
    base: String,
    /// The registry itself is reached by TLS: then passwords go nowhere without.
    encrypted: bool,
    /// The only hosts of token services that get credentials; any, without.
    token_hosts: Option<Vec<String>>,
    /// Where tokens are found and left; nowhere for a login.
    shared: Option<Shared>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    challenge: Option<Challenge>,
    /// By the scope that was asked for besides the usual one.
    held: HashMap<Option<String>, Held>,
    identity_token: Option<String>,
}

/// A header and how long it is good for.
#[derive(Debug)]
struct Held {
    header: HeaderValue,
    expires: Option<Instant>,
    /// It was fetched by another connection.
    borrowed: bool,
}

impl Held {
    fn is_fresh(&self) -> bool {
        self.expires.is_none_or(|at| at > Instant::now() + MARGIN)
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

impl Auth {
    pub(crate) fn new(client: Client, credentials: Credentials, scope: Option<String>, base: &Url) -> Self {
        let (base, encrypted) = (base.to_string(), base.scheme() == "https");
        Auth {
            client,
            credentials,
            scope,
            offline: false,
            base,
            encrypted,
            token_hosts: None,
            shared: None,
            state: Mutex::default(),
        }
    }

    /// The same, sending credentials to no other hosts.
    pub(crate) fn only_to(self, token_hosts: Option<Vec<String>>) -> Self {
        Auth { token_hosts, ..self }
    }

    /// The same, with tokens in common with other connections.
    pub(crate) fn sharing(self, shared: &Shared) -> Self {
        Auth { shared: Some(shared.clone()), ..self }
    }

    /// The same, asking for a refresh token too.
    pub(crate) fn offline(self) -> Self {
        Auth { offline: true, ..self }
    }

    /// The refresh token, if the authorization service gave one.
    pub(crate) async fn identity_token(&self) -> Option<String> {
        self.state.lock().await.identity_token.clone()
    }

    /// The header for the next request, which needs the scope `extra` besides the usual one.
    pub(crate) async fn header(&self, target: &Url, extra: Option<&str>) -> Result<Option<HeaderValue>> {
        let mut state = self.state.lock().await;
        let key = extra.map(str::to_owned);
        if let Some(held) = state.held.get(&key).filter(|held| held.is_fresh()) {
            return Ok(Some(held.header.clone()));
        }
        let made = self.authenticate(&mut state, target, extra).await?;
        Ok(made.map(|held| {
            let header = held.header.clone();
            state.held.insert(key, held);
            header
        }))
    }

    /// The registry answered 403 to a request that was sent with `used`. Returns whether that may be for the age of a token, which is
    /// dropped then.
    pub(crate) async fn forbidden(&self, used: Option<&HeaderValue>, extra: Option<&str>) -> bool {
        let mut state = self.state.lock().await;
        let key = extra.map(str::to_owned);
        let borrowed = state.held.get(&key).is_some_and(|held| held.borrowed && Some(&held.header) == used);
        if borrowed {
            self.forget(&mut state, &key);
        }
        borrowed
    }

    /// Drops a header, here and for others.
    fn forget(&self, state: &mut State, key: &Option<String>) {
        if let (Some(held), Some(shared)) = (state.held.remove(key), &self.shared) {
            shared.drop_token(&held.header);
        }
    }

    /// The registry answered 401 to a request that was sent with `used`. Returns whether to try again.
    pub(crate) async fn refused(
        &self,
        used: Option<&HeaderValue>,
        extra: Option<&str>,
        headers: &HeaderMap,
        target: &Url,
    ) -> Result<bool> {
        {
            let mut state = self.state.lock().await;
            let key = extra.map(str::to_owned);
            if state.held.get(&key).map(|held| &held.header) != used {
                return Ok(true);
            }
            let offered = challenges(headers);
            let usable = |scheme: &str| offered.iter().find(|c| c.scheme == scheme).cloned();
            let Some(challenge) = usable("bearer").or_else(|| usable("basic")) else { return Ok(false) };
            if challenge.scheme == "basic" && used.is_some() {
                return Ok(false);
            }
            state.challenge = Some(challenge);
            self.forget(&mut state, &key);
        }
        let next = self.header(target, extra).await?;
        Ok(next.is_some() && next.as_ref() != used)
    }

    async fn authenticate(&self, state: &mut State, target: &Url, extra: Option<&str>) -> Result<Option<Held>> {
        if !self.credentials.registry_token.is_empty() {
            let header = secret(format!("Bearer {}", self.credentials.registry_token))?;
            return Ok(Some(Held { header, expires: None, borrowed: false }));
        }
        match &state.challenge {
            None => Ok(None),
            Some(challenge) if challenge.scheme == "basic" => {
                if self.credentials.username.is_empty() {
                    return Err(RegistryError::NoCredentials { method: "Get", url: target.to_string() });
                }
                Ok(Some(Held { header: self.basic()?, expires: None, borrowed: false }))
            }
            Some(challenge) => {
                let key = self.fingerprint(challenge, extra);
                let known = self.shared.as_ref().and_then(|shared| shared.token(&key, Instant::now() + MARGIN));
                if let Some(Token { header, expires }) = known {
                    return Ok(Some(Held { header, expires: Some(expires), borrowed: true }));
                }
                let answer = self.fetch_token(challenge, extra).await.map_err(|error| match error {
                    RegistryError::Api(detail) => RegistryError::Token { url: target.to_string(), detail },
                    other => other,
                })?;
                let lifetime = answer.expires_in.unwrap_or(DEFAULT_LIFETIME).clamp(DEFAULT_LIFETIME, 86_400);
                let token = answer.token.or(answer.access_token).filter(|t| !t.is_empty());
                let header = secret(format!("Bearer {}", token.ok_or(RegistryError::NoToken)?))?;
                if let Some(token) = answer.refresh_token.filter(|token| !token.is_empty()) {
                    state.identity_token = Some(token);
                }
                let expires = Instant::now() + Duration::from_secs(lifetime);
                if let Some(shared) = &self.shared {
                    shared.keep_token(key, Token { header: header.clone(), expires });
                }
                Ok(Some(Held { header, expires: Some(expires), borrowed: false }))
            }
        }
    }

    /// All that a token depends on: who asks whom for what, and for which registry.
    fn fingerprint(&self, challenge: &Challenge, extra: Option<&str>) -> Fingerprint {
        let Credentials { username, password, identity_token, .. } = &self.credentials;
        let part = |name| challenge.parameter(name).unwrap_or_default();
        let scopes = [self.scope.as_deref().unwrap_or_default(), extra.unwrap_or_default()];
        let texts =
            [&self.base, part("realm"), part("service"), scopes[0], scopes[1], username, password, identity_token];
        let allowed = self.token_hosts.iter().flatten().map(String::as_str);
        Fingerprint::of(texts.into_iter().chain(allowed).map(str::as_bytes))
    }

    fn basic(&self) -> Result<HeaderValue> {
        let Credentials { username, password, .. } = &self.credentials;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
        secret(format!("Basic {pair}"))
    }

    async fn fetch_token(&self, challenge: &Challenge, extra: Option<&str>) -> Result<TokenAnswer> {
        let (request, realm) = self.token_request(challenge, extra)?;
        let response = match request.send().await {
            Ok(response) => response,
            Err(e) => return Err(failed("Get", &realm, e).await),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read_body(response, MAX_TOKEN_ANSWER, "answer of the authorization server").await?;
        if !status.is_success() {
            return Err(from_answer(status.as_u16(), &status.to_string(), bearer_error(&headers), &body));
        }
        serde_json::from_slice(&body)
            .map_err(|e| RegistryError::Challenge(format!("unable to decode token response: {e}")))
    }

    /// The request for a token, and the address it goes to (without what is secret).
    fn token_request(&self, challenge: &Challenge, extra: Option<&str>) -> Result<(RequestBuilder, Url)> {
        let realm = challenge.parameter("realm").unwrap_or_default();
        let realm: Url = realm
            .parse()
            .map_err(|_| RegistryError::Challenge(format!("malformed realm in the registry's challenge: {realm:?}")))?;
        let Credentials { username, identity_token, .. } = &self.credentials;
        let anonymous = username.is_empty() && identity_token.is_empty();
        let host = realm.host_str().unwrap_or_default();
        let elsewhere = self.token_hosts.as_ref().is_some_and(|hosts| !hosts.iter().any(|known| known == host));
        if elsewhere && !anonymous {
            return Err(RegistryError::Challenge(format!("refusing to send credentials to {realm}")));
        }
        if !matches!(realm.scheme(), "https" | "http") || (realm.scheme() == "http" && self.encrypted && !anonymous) {
            return Err(RegistryError::Challenge(format!("refusing to send credentials to {realm}")));
        }
        let service = challenge.parameter("service").unwrap_or_default();
        let scopes: Vec<&str> = self.scope.as_deref().into_iter().chain(extra).collect();
        if !identity_token.is_empty() {
            let form = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", "refresh_token")
                .append_pair("service", service)
                .append_pair("client_id", CLIENT_ID)
                .append_pair("scope", &scopes.join(" "))
                .append_pair("refresh_token", identity_token)
                .finish();
            let request = self.client.post(realm.clone());
            let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(form);
            return Ok((request, realm));
        }
        let mut target = realm;
        {
            let mut query = target.query_pairs_mut();
            query.append_pair("service", service);
            for scope in scopes {
                query.append_pair("scope", scope);
            }
            if !anonymous {
                query.append_pair("account", username);
            }
            if self.offline {
                query.append_pair("offline_token", "true").append_pair("client_id", CLIENT_ID);
            }
        }
        let mut request = self.client.get(target.clone());
        if !anonymous {
            request = request.header(AUTHORIZATION, self.basic()?);
        }
        Ok((request, target))
    }
}

pub(crate) fn secret(text: String) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| RegistryError::Challenge("credentials hold letters that a header can't carry".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

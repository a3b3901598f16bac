//! One repository of one registry: the requests.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RANGE,
};
use reqwest::{Method, Response, StatusCode};
use skep_types::{Digest, Reference, Selector};
use url::Url;

use crate::auth::Auth;
use crate::blob::{Blob, digest_of};
use crate::challenge::bearer_error;
use crate::client::MAX_REDIRECTS;
use crate::endpoint::{Endpoint, ways_to};
use crate::error::{Phase, from_answer};
use crate::hosts::Host;
use crate::manifest::{Descriptor, MAX_MANIFEST_SIZE, Manifest, media_type};
use crate::sources::{Sources, Wanted};
use crate::transport::{endless, failed, pause_asked_for, read_body, silent};
use crate::{Credentials, RegistryConfig, RegistryError, Result};

/// The largest body of an error that is read.
const MAX_ERROR_BODY: u64 = 1 << 20;

/// How long the rest of an answer is waited for that nobody wants.
const DRAIN: Duration = Duration::from_secs(1);

/// A repository that answered. Cheap to clone; tokens are shared.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The first host that answered: the registry itself, unless it has mirrors.
    pub(crate) inner: Arc<Inner>,
    pub(crate) sources: Arc<Sources>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) reference: Reference,
    pub(crate) endpoint: Endpoint,
    pub(crate) auth: Auth,
    pub(crate) attempts: u32,
    /// Longest silence of the server.
    pub(crate) stall: Duration,
    /// The server asked not to be asked before.
    not_before: Mutex<Option<Instant>>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

/// A request that can be sent again.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// A scope that is needed besides the connection's own.
    pub(crate) scope: Option<&'a str>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, url: &'a Url) -> Self {
        Call { method, url, headers: HeaderMap::new(), body: Bytes::new(), scope: None }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Result<Self> {
        let value = HeaderValue::try_from(value.into()).map_err(|e| RegistryError::Setup(e.to_string()))?;
        self.headers.insert(name, value);
        Ok(self)
    }
}

/// A manifest or index with the bytes that it was served as.
#[derive(Debug, Clone)]
pub struct FetchedManifest {
    /// sha256 of `raw`.
    pub digest: Digest,
    /// The media type.
    pub media_type: String,
    /// What came; has `digest`.
    pub raw: Vec<u8>,
    /// What it says.
    pub manifest: Manifest,
}

impl Repository {
    /// Finds the registry of `reference` and a way to read from it.
    pub async fn connect(
        config: &RegistryConfig,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Repository> {
        Self::connect_for(config, reference, credentials, Access::Pull).await
    }

    /// Finds the registry of `reference` and a way to speak to it.
    pub async fn connect_for(
        config: &RegistryConfig,
        reference: &Reference,
        credentials: Option<&Credentials>,
        access: Access,
    ) -> Result<Repository> {
        let sources = Arc::new(Sources::new(config, reference, credentials, access)?);
        Ok(Repository { inner: sources.first().await?, sources })
    }

    /// The reference this is for.
    pub fn reference(&self) -> &Reference {
        &self.inner.reference
    }

    /// Fetches a manifest or an index by tag or digest.
    pub async fn manifest(&self, selector: &Selector) -> Result<FetchedManifest> {
        self.fetch_manifest(selector).await.map_err(|e| match selector {
            Selector::Tag(_) => e.about(&self.inner.reference),
            Selector::Digest(digest) => e.about(&self.inner.reference.with_digest(*digest)),
        })
    }

    async fn fetch_manifest(&self, selector: &Selector) -> Result<FetchedManifest> {
        let wanted = match selector {
            Selector::Tag(_) => Wanted::Tag,
            Selector::Digest(_) => Wanted::Content,
        };
        let (mut last, mut from) = (None, 0);
        while let Some(number) = self.sources.next(from, wanted) {
            from = number + 1;
            let result = match self.sources.connection(number).await {
                Ok(inner) => inner.manifest(selector).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(manifest) => return Ok(manifest),
                Err(error) => last = Some(self.sources.failed(number, error)),
            }
        }
        Err(last.unwrap_or_else(|| self.sources.nobody()))
    }

    /// Fetches a small blob whole: at most `limit` bytes, of the descriptor's size and digest.
    pub async fn small_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        if descriptor.size > limit {
            return Err(RegistryError::TooLarge { what: format!("blob {}", descriptor.digest), limit });
        }
        loop {
            let mut blob = self.blob(descriptor);
            match blob.read_all().await {
                Err(RegistryError::Digest { .. }) if blob.distrust() => {}
                result => return result,
            }
        }
    }

    /// A blob's bytes. Nothing is asked for before the first part is.
    pub fn blob(&self, descriptor: &Descriptor) -> Blob {
        Blob::new(self.clone(), descriptor, self.inner.attempts)
    }

    /// A blob's bytes from `offset` on, for a caller that has those before. Only their number is checked: whoever has all of them
    /// checks the digest, and calls [`Blob::distrust`] if it is wrong.
    pub fn blob_from(&self, descriptor: &Descriptor, offset: u64) -> Blob {
        self.blob(descriptor).starting_at(offset)
    }
}

impl Inner {
    /// Finds a way to a host.
    pub(crate) async fn connect(
        config: &RegistryConfig,
        host: &Host,
        reference: &Reference,
        credentials: &Credentials,
        access: Access,
    ) -> Result<Inner> {
        let mut last = None;
        for endpoint in ways_to(config, host, reference.registry(), access).await? {
            let actions = if access == Access::Push { "pull,push" } else { "pull" };
            let scope = Some(format!("repository:{}:{actions}", reference.path()));
            let auth = Auth::new(endpoint.client.clone(), credentials.clone(), scope, &endpoint.base)
                .only_to(config.token_hosts.clone())
                .sharing(&config.shared);
            let attempts = config.max_download_attempts.max(1);
            let (reference, stall) = (reference.clone(), config.stall_timeout);
            let inner = Inner { reference, endpoint, auth, attempts, stall, not_before: Mutex::default() };
            match inner.ping().await {
                Ok(()) => return Ok(inner),
                Err(e @ RegistryError::Transport { .. }) => {
                    tracing::debug!(registry = inner.reference.registry(), error = %e, "trying the next way to the registry");
                    last = Some(e);
                }
                Err(e) => return Err(e.about(&inner.reference)),
            }
        }
        Err(last.unwrap_or_else(|| RegistryError::Setup(format!("no endpoints found for {reference}"))))
    }

    pub(crate) fn url(&self, rest: &str) -> Result<Url> {
        let path = format!("{}/{rest}", self.reference.path());
        let mut url = self.endpoint.root.join(&path).map_err(|e| RegistryError::Setup(format!("{path}: {e}")))?;
        if let Some(namespace) = &self.endpoint.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// Asks for the API's root: does the registry answer, and how does it want to be authenticated to?
    async fn ping(&self) -> Result<()> {
        let url = self.endpoint.root.clone();
        let mut response = self.ask_root(&url).await;
        if let Err(RegistryError::Transport { phase: Phase::Exchange, .. }) = response {
            // A connection that was kept open may be closed by the server just when it is used again.
            response = self.ask_root(&url).await;
        }
        let response = response?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.auth.refused(None, None, response.headers(), &url).await?;
        }
        // To its end, so that the connection can be used again. What it says does not matter, nor that it may not end.
        let rest = read_body(response, MAX_ERROR_BODY, "answer of the registry");
        let _ = tokio::time::timeout(DRAIN, rest).await;
        Ok(())
    }

    async fn ask_root(&self, url: &Url) -> Result<Response> {
        let request = self.endpoint.client.get(url.clone()).headers(self.endpoint.headers.clone());
        match request.send().await {
            Ok(response) => Ok(response),
            Err(e) => Err(failed("Get", url, e).await),
        }
    }

    async fn manifest(&self, selector: &Selector) -> Result<FetchedManifest> {
        let name = match selector {
            Selector::Tag(tag) => tag.clone(),
            Selector::Digest(digest) => digest.to_string(),
        };
        let url = self.url(&format!("manifests/{name}"))?;
        let mut headers = HeaderMap::new();
        for accepted in media_type::ACCEPTED {
            headers.append(ACCEPT, HeaderValue::from_static(accepted));
        }
        let response = self.get_patiently(&url, &headers).await?;
        let text =
            |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let (served, announced) = (text(CONTENT_TYPE.as_str()), text("docker-content-digest"));
        let raw = read_body(response, MAX_MANIFEST_SIZE, "manifest").await?;
        let digest = digest_of(&raw);
        let expected = match selector {
            Selector::Digest(digest) => Some(*digest),
            Selector::Tag(_) => announced.parse().ok(),
        };
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(RegistryError::Digest { what: "manifest", expected });
        }
        let manifest = Manifest::parse(&raw, &served)?;
        let media_type = match &manifest {
            _ if media_type::ACCEPTED.contains(&served.as_str()) => served,
            Manifest::Image(_) | Manifest::Artifact(_) => media_type::OCI_MANIFEST.to_owned(),
            Manifest::Index(_) => media_type::OCI_INDEX.to_owned(),
        };
        Ok(FetchedManifest { digest, media_type, raw, manifest })
    }

    /// Asks for a blob from `offset` on.
    pub(crate) async fn open_blob(&self, digest: &Digest, offset: u64) -> Result<Response> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-"));
            headers.insert(RANGE, range.map_err(|e| RegistryError::Setup(e.to_string()))?);
        }
        self.get(&url, &headers).await.map_err(|e| e.about(&self.reference))
    }

    /// A GET with authentication. An error status becomes an error.
    async fn get(&self, url: &Url, headers: &HeaderMap) -> Result<Response> {
        self.send(&Call { headers: headers.clone(), ..Call::new(Method::GET, url) }).await
    }

    /// A request with authentication. An error status becomes an error.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Response> {
        let mut first = true;
        loop {
            let authorization = self.authorization(call.url, call.scope).await?;
            let response = self.exchange(call, authorization.as_ref()).await?;
            if response.status().is_success() {
                return Ok(response);
            }
            let again = first
                && match response.status() {
                    StatusCode::UNAUTHORIZED => {
                        self.auth.refused(authorization.as_ref(), call.scope, response.headers(), call.url).await?
                    }
                    StatusCode::FORBIDDEN => self.auth.forbidden(authorization.as_ref(), call.scope).await,
                    _ => false,
                };
            if again {
                first = false;
                continue;
            }
            self.heed_pause(&response);
            return Err(refusal(response).await);
        }
    }

    /// Sends a request, and a read on to where the answer says. What is for this host (credentials, configured headers) goes to it
    /// alone: storage behind a registry signs its addresses itself.
    async fn exchange(&self, call: &Call<'_>, authorization: Option<&HeaderValue>) -> Result<Response> {
        let method = go_method(&call.method);
        let mut url = call.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.endpoint.client.request(call.method.clone(), url.clone());
            request = request.headers(call.headers.clone()).body(call.body.clone());
            if url.origin() == self.endpoint.base.origin() {
                request = request.headers(self.endpoint.headers.clone());
                if let Some(value) = authorization {
                    request = request.header(AUTHORIZATION, value.clone());
                }
            }
            let response = match tokio::time::timeout(self.patience(call.body.len()), request.send()).await {
                Ok(Ok(response)) => response,
                Ok(Err(e)) => return Err(failed(method, &url, e).await),
                Err(_) => return Err(silent(method, &url)),
            };
            let reads = matches!(call.method, Method::GET | Method::HEAD);
            match next_address(&response, &url).filter(|_| reads) {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(endless(method, call.url))
    }

    /// Remembers that the server wants to be left alone.
    fn heed_pause(&self, response: &Response) {
        if let Some(pause) = pause_asked_for(response) {
            *self.not_before.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now().checked_add(pause);
        }
    }

    /// How long the server wants to be left alone.
    pub(crate) fn pause(&self) -> Duration {
        let until = *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// The credentials for a request, which go to the registry only and never without the encryption that it has.
    pub(crate) async fn authorization(&self, url: &Url, scope: Option<&str>) -> Result<Option<HeaderValue>> {
        match url.origin() == self.endpoint.base.origin() {
            true => self.auth.header(url, scope).await,
            false => Ok(None),
        }
    }

    /// How long a request with so many bytes may take to its answer: no less than 16 kB/s are expected.
    fn patience(&self, bytes: usize) -> Duration {
        self.stall + Duration::from_secs(bytes as u64 >> 14)
    }

    /// As [`get`](Self::get), trying again when the registry stumbles (5xx, a broken connection).
    pub(crate) async fn get_patiently(&self, url: &Url, headers: &HeaderMap) -> Result<Response> {
        self.send_patiently(&Call { headers: headers.clone(), ..Call::new(Method::GET, url) }).await
    }

    /// As [`send`](Self::send), trying again when the registry stumbles.
    pub(crate) async fn send_patiently(&self, call: &Call<'_>) -> Result<Response> {
        let mut attempt = 0;
        loop {
            match self.send(call).await {
                Err(e) if attempt + 1 < self.attempts.min(3) && stumbled(&e) => {
                    tracing::debug!(url = %call.url, error = %e, attempt, "trying again");
                    tokio::time::sleep(backoff(attempt)).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }
}

/// Where an answer sends its reader.
fn next_address(response: &Response, from: &Url) -> Option<Url> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let target = from.join(response.headers().get(LOCATION)?.to_str().ok()?).ok()?;
    matches!(target.scheme(), "http" | "https").then_some(target)
}

/// What an answer with an error status says.
pub(crate) async fn refusal(response: Response) -> RegistryError {
    let status = response.status();
    let bearer = bearer_error(response.headers());
    let body = read_body(response, MAX_ERROR_BODY, "error message of the registry").await.unwrap_or_default();
    from_answer(status.as_u16(), &status.to_string(), bearer, &body)
}

/// The method as Go's client names it in errors.
pub(crate) fn go_method(method: &Method) -> &'static str {
    match method.as_str() {
        "HEAD" => "Head",
        "POST" => "Post",
        "PUT" => "Put",
        "PATCH" => "Patch",
        _ => "Get",
    }
}

/// A failure that is worth a second try at once. A rate limit is not: the user should read it now.
fn stumbled(error: &RegistryError) -> bool {
    match error {
        RegistryError::Transport { phase, .. } => *phase == Phase::Exchange,
        RegistryError::Status(_) => error.is_transient(),
        _ => false,
    }
}

/// Half a second, doubled with each attempt, at most 16 seconds; of that a random part, no less than a half, so that many clients of
/// a registry that broke down don't all come back at once.
pub(crate) fn backoff(attempt: u32) -> Duration {
    let whole = Duration::from_millis(500 << attempt.min(5));
    // Keyed anew by the system for every state: random enough for this.
    let random = RandomState::new().hash_one(attempt) % 1000;
    whole.mul_f64(0.5 + f64::from(u32::try_from(random).unwrap_or(0)) / 2000.0)
}

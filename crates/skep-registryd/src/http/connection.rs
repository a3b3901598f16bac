//! One client's connection: hyper speaks HTTP on it, and each request is decoded, decided on, handled and logged.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HeaderMap, HeaderName, HeaderValue, SERVER, USER_AGENT, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::auth::{Action, Caller, Need};
use crate::error::{Code, Error, Refusal, Result};
use crate::http::answer::{Answer, Body};
use crate::http::body::RequestBody;
use crate::http::endpoint::{Endpoint, find};
use crate::http::error;
use crate::http::query::{Query, decode};
use crate::http::request::Request;
use crate::http::server::{Access, Offer, Shared};
use crate::routes;

/// How long a client may take for the head of a request, and stay idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Says that this is a registry of the second version; old clients insist on it.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Who is at the other end, and what is offered there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) https: bool,
    pub(crate) offer: Offer,
}

/// Serves one connection to its end.
pub(crate) async fn serve(shared: Arc<Shared>, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) {
    let service = {
        let shared = shared.clone();
        service_fn(move |request| respond(shared.clone(), peer, request))
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = shared.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %peer.address, %error, "the connection broke off");
    }
}

async fn respond(
    shared: Arc<Shared>,
    peer: Peer,
    request: hyper::Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let started = Instant::now();
    shared.metrics.running.inc();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default().to_owned();
    let (label, answered) = dispatch(&shared, peer, request).await;
    let answer = answered.unwrap_or_else(|error| {
        match &error {
            Error::Refused(_) | Error::Body(_) => tracing::debug!(%error, "refused"),
            Error::Metadata(_) | Error::Storage(_) | Error::Upload(_) | Error::Broken(_) => {
                tracing::error!(%error, %method, path, "a request failed");
            }
        }
        error::answer(&error)
    });
    let mut response = answer.0;
    if method == Method::HEAD {
        // Its length stays; hyper sends no body.
        *response.body_mut() = Answer::empty(StatusCode::OK).0.into_body();
    }
    let headers = response.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(SERVER, HeaderValue::from_static(concat!("Skep/", env!("CARGO_PKG_VERSION"))));
    let (took, peer) = (started.elapsed(), peer.address);
    shared.metrics.running.dec();
    shared.metrics.answered(label, &method, response.status().as_u16(), took);
    let (milliseconds, status, line) = (took.as_millis(), response.status().as_u16(), format!("{method} {path}"));
    tracing::info!(%peer, request = line, status, milliseconds, agent, endpoint = label, "answered");
    Ok(response)
}

/// Finds the resource and does what is asked, in a task of its own if that changes something: a change is not left half done
/// because its client has gone.
async fn dispatch(
    shared: &Arc<Shared>,
    peer: Peer,
    request: hyper::Request<Incoming>,
) -> (&'static str, Result<Answer>) {
    let (parts, body) = request.into_parts();
    let body = RequestBody::new(body, shared.tasks.clone());
    let Some(path) = decode(parts.uri.path()) else {
        return ("none", Err(Refusal::new(Code::NameInvalid, "invalid URL escape").into()));
    };
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let endpoint = match find(&parts.method, &path) {
        Ok(Some(endpoint)) if is_offered(&endpoint, peer.offer) => endpoint,
        Ok(_) => return ("none", Ok(Answer::bytes(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n"))),
        Err(refusal) => return ("none", Err(refusal.into())),
    };
    let label = endpoint.label();
    let endpoint = match translated(shared, endpoint, &query) {
        Ok(endpoint) => endpoint,
        Err(error) => return (label, Err(error)),
    };
    let audience = endpoint.audience();
    let need = if peer.offer == Offer::Metrics { Need::Nothing } else { endpoint.need(&parts.method) };
    let caller = match admit(shared, &parts.headers, &need).await {
        Ok(caller) => caller,
        Err(Error::Refused(refusal)) if refusal.code == Code::Unauthorized => {
            let challenge = shared.authority.challenge(&parts.headers, peer.https, &need, audience);
            let answer = error::answer(&refusal.into());
            return (label, Ok(answer.header(WWW_AUTHENTICATE, &challenge.unwrap_or_default())));
        }
        Err(error) => return (label, Err(error)),
    };
    let request = Request { method: parts.method, query, headers: parts.headers, body, caller };
    (label, run(shared, endpoint, request).await)
}

/// A cache is asked for repositories of other registries by their own names, with the registry beside it.
fn translated(shared: &Shared, mut endpoint: Endpoint, query: &Query) -> Result<Endpoint> {
    if let (Some(cache), Some(namespace)) = (&shared.cache, query.get("ns"))
        && let Some(name) = endpoint.repository_mut()
    {
        *name = cache.local(name, namespace)?;
    }
    Ok(endpoint)
}

/// Who sent the request, if that is somebody who may.
async fn admit(shared: &Shared, headers: &HeaderMap, need: &Need) -> Result<Caller> {
    // Where nothing is needed nothing is looked at: a token that has run out gets another one there.
    if *need == Need::Nothing {
        return Ok(Caller::Anonymous);
    }
    let caller = shared.authority.identify(headers).await?;
    shared.authority.check(&caller, need)?;
    Ok(caller)
}

fn is_offered(endpoint: &Endpoint, offer: Offer) -> bool {
    match offer {
        Offer::All => true,
        Offer::Registry => *endpoint != Endpoint::Metrics,
        Offer::Metrics => matches!(endpoint, Endpoint::Metrics | Endpoint::Health),
    }
}

async fn run(shared: &Arc<Shared>, endpoint: Endpoint, request: Request) -> Result<Answer> {
    if request.method == Method::GET || request.method == Method::HEAD {
        return routes::handle(shared, endpoint, request).await;
    }
    if shared.access == Access::ReadOnly {
        return Err(Refusal::new(Code::Unsupported, "the registry is read-only").into());
    }
    if let (Need::Repository(name, Action::Push), Some(cache)) = (endpoint.need(&request.method), &shared.cache)
        && cache.source(&name).is_some()
    {
        let refusal = Refusal::new(Code::Unsupported, "the repository is a copy of another registry's");
        return Err(refusal.into());
    }
    let owner = shared.clone();
    shared.tasks.spawn(async move { routes::handle(&owner, endpoint, request).await }).await?
}

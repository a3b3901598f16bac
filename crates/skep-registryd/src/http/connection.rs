//! One client's connection: hyper speaks HTTP on it, and each request is decoded, decided on, handled and logged.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HeaderName, HeaderValue, SERVER, USER_AGENT, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::{Code, Error, Refusal, Result};
use crate::http::answer::{Answer, Body};
use crate::http::body::RequestBody;
use crate::http::endpoint::{Endpoint, find};
use crate::http::error;
use crate::http::query::{Query, decode};
use crate::http::request::Request;
use crate::http::server::{Access, Shared};
use crate::routes;

/// How long a client may take for the head of a request, and stay idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Says that this is a registry of the second version; old clients insist on it.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Serves one connection to its end.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
) {
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
        tracing::debug!(%peer, %error, "the connection broke off");
    }
}

async fn respond(
    shared: Arc<Shared>,
    peer: SocketAddr,
    request: hyper::Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let started = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default().to_owned();
    let (label, answered) = dispatch(&shared, request).await;
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
    let milliseconds = started.elapsed().as_millis();
    tracing::info!(%peer, %method, path, status = response.status().as_u16(), milliseconds, agent, label, "request");
    Ok(response)
}

/// Finds the resource and does what is asked, in a task of its own if that changes something: a change is not left half done
/// because its client has gone.
async fn dispatch(shared: &Arc<Shared>, request: hyper::Request<Incoming>) -> (&'static str, Result<Answer>) {
    let (parts, body) = request.into_parts();
    let body = RequestBody::new(body, shared.tasks.clone());
    let Some(path) = decode(parts.uri.path()) else {
        return ("none", Err(Refusal::new(Code::NameInvalid, "invalid URL escape").into()));
    };
    let endpoint = match find(&parts.method, &path) {
        Ok(Some(endpoint)) => endpoint,
        Ok(None) => return ("none", Ok(Answer::bytes(StatusCode::NOT_FOUND, "text/plain", "404 page not found\n"))),
        Err(refusal) => return ("none", Err(refusal.into())),
    };
    let label = endpoint.label();
    let request = Request {
        method: parts.method,
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        headers: parts.headers,
        body,
    };
    (label, run(shared, endpoint, request).await)
}

async fn run(shared: &Arc<Shared>, endpoint: Endpoint, request: Request) -> Result<Answer> {
    if request.method == Method::GET || request.method == Method::HEAD {
        return routes::handle(shared, endpoint, request).await;
    }
    if shared.access == Access::ReadOnly {
        return Err(Refusal::new(Code::Unsupported, "the registry is read-only").into());
    }
    let owner = shared.clone();
    shared.tasks.spawn(async move { routes::handle(&owner, endpoint, request).await }).await?
}

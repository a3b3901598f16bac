//! One client's connection: hyper speaks HTTP on it until it closes or is hijacked.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, SERVER, UPGRADE};
use http::{Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use skep_types::ErrorKind;
use tokio::io::AsyncWriteExt;

use crate::http::answer::{Body, full};
use crate::http::drain::Drained;
use crate::http::hijack::{Duplex, Hijacked, Peer, Rewound, Session};
use crate::http::query::Query;
use crate::http::router::Effect;
use crate::http::server::Shared;
use crate::http::{Answer, ApiError, Request, version};

/// As dockerd's: how long a client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);

/// A hijack that hyper can't do: the connection is taken back from it.
type Takeover = Arc<Mutex<Option<(&'static str, Session)>>>;

/// Serves one connection to its end.
pub(crate) async fn serve<T: Duplex + 'static>(shared: Arc<Shared>, io: T, peer: Peer) {
    let takeover = Takeover::default();
    let service = {
        let (shared, takeover, peer) = (shared.clone(), takeover.clone(), peer.clone());
        service_fn(move |request| respond(shared.clone(), takeover.clone(), peer.clone(), request))
    };
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut stopping = Box::pin(shared.stop.cancelled());
    let mut told = false;
    let taken = std::future::poll_fn(|context| {
        if !told && stopping.as_mut().poll(context).is_ready() {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        let ended = Pin::new(&mut connection).poll(context);
        match takeover.lock().take() {
            Some(taken) => Poll::Ready(Some(taken)),
            None => ended.map(|_| None),
        }
    })
    .await;
    let Some((content_type, session)) = taken else { return };
    let Some(parts) = connection.into_parts() else { return };
    let mut io = parts.io.into_inner();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n");
    if io.write_all(head.as_bytes()).await.is_ok() && io.flush().await.is_ok() {
        let io = Box::new(Rewound::new(parts.read_buf, io));
        run_session(&shared, session, Hijacked { io, peer }).await;
    }
}

async fn run_session(shared: &Shared, session: Session, hijacked: Hijacked) {
    tokio::select! {
        () = session(hijacked) => {}
        () = shared.abort.cancelled() => {}
    }
}

async fn respond(
    shared: Arc<Shared>,
    takeover: Takeover,
    peer: Peer,
    mut request: hyper::Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let upgrade = (request.version() == Version::HTTP_11 && request.headers().contains_key(UPGRADE))
        .then(|| hyper::upgrade::on(&mut request));
    let head_only = request.method() == http::Method::HEAD;
    let answer = dispatch(&shared, request, upgrade.is_some()).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "request failed");
        Answer::from(&error)
    });
    let mut response = match (answer, upgrade) {
        (Answer::Plain(response), _) => response,
        (Answer::Hijack { content_type, session }, Some(upgrade)) => {
            hand_over(&shared, upgrade, session, peer);
            let mut response = switching("tcp");
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            response
        }
        (Answer::Upgrade { protocol, session }, Some(upgrade)) => {
            hand_over(&shared, upgrade, session, peer);
            switching(protocol)
        }
        (Answer::Upgrade { protocol, .. }, None) => {
            let plain = Answer::from(&ApiError::invalid(format!("no upgrade to {protocol} was asked for")));
            match plain {
                Answer::Plain(response) => response,
                _ => Response::new(full(bytes::Bytes::new())),
            }
        }
        (Answer::Hijack { content_type, session }, None) => {
            *takeover.lock() = Some((content_type, session));
            // The connection's task sees it, and never asks this future again.
            match std::future::pending::<Infallible>().await {}
        }
    };
    if head_only && response.status() != StatusCode::OK {
        *response.body_mut() = full(bytes::Bytes::new());
    }
    for (name, value) in shared.headers.iter() {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    Ok(response)
}

/// Gives the connection to `session` as soon as the answer is out.
fn hand_over(shared: &Arc<Shared>, upgrade: hyper::upgrade::OnUpgrade, session: Session, peer: Peer) {
    let owner = shared.clone();
    shared.tasks.spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let io = Box::new(TokioIo::new(upgraded));
            run_session(&owner, session, Hijacked { io, peer }).await;
        }
    });
}

/// 101, with dockerd's reason and headers.
fn switching(protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(full(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(protocol));
    response.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    response
}

/// Finds the endpoint and runs its handler, in a task of its own if it changes something.
async fn dispatch(shared: &Arc<Shared>, request: hyper::Request<Incoming>, upgrade: bool) -> Result<Answer, ApiError> {
    let (parts, body) = request.into_parts();
    let path = percent_decode(parts.uri.path())?;
    let (version, path) = version::split(&path)?;
    tracing::debug!(method = %parts.method, path, "request");
    let (route, params) =
        shared.router.find(&parts.method, path).ok_or_else(|| ApiError::new(ErrorKind::NotFound, "page not found"))?;
    let handling = (route.handler)(Request {
        engine: shared.engine.clone(),
        builds: shared.builds.clone(),
        version,
        params,
        query: Query::parse(parts.uri.query().unwrap_or_default()),
        headers: parts.headers,
        body: Drained::new(body, shared.tasks.clone()).map_err(Into::into).boxed_unsync(),
        upgrade,
        closing: shared.abort.clone(),
    });
    match route.effect {
        Effect::Reads => handling.await,
        Effect::Changes => match shared.tasks.spawn(handling).await {
            Ok(answer) => answer,
            Err(error) => Err(ApiError::new(ErrorKind::System, format!("the request broke off: {error}"))),
        },
    }
}

/// The path with its `%2F` and the like replaced, as dockerd matches it.
fn percent_decode(path: &str) -> Result<String, ApiError> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |c: Option<u8>| c.and_then(|c| char::from(c).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) => bytes.push(high << 4 | low),
            _ => return Err(ApiError::invalid("invalid URL escape")),
        }
    }
    String::from_utf8(bytes).map_err(|_| ApiError::invalid("the path is not UTF-8"))
}

/// Headers of every answer.
pub(crate) fn common_headers() -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    headers.insert("api-version", HeaderValue::from_static(crate::API_VERSION));
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert(SERVER, HeaderValue::from_static(concat!("Skep/", env!("CARGO_PKG_VERSION"), " (linux)")));
    headers
}

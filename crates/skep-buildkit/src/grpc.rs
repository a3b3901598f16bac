//! gRPC over a stream that is already there: a hijacked connection, or two ends of a pipe in tests.
//!
//! The tasks that serve the calls of a connection belong to it: [`serve`] returns when the peer is gone and all of them have ended.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower_service::Service;

/// What may be on its way to us unread: of one call, and of all calls of a connection. A build context comes as one call.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Calls of one peer that may be open at once.
const STREAMS_MAX: u32 = 1000;

/// Runs the tasks of a connection, and knows when all have ended.
#[derive(Clone, Default)]
struct Tasks(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// Services by their names.
#[derive(Clone, Default)]
pub struct Routes {
    services: HashMap<&'static str, Handler>,
    methods: Vec<String>,
}

impl Routes {
    /// Adds a service. `methods` are the names of its calls that peers are told of.
    #[must_use]
    pub fn with<S>(mut self, service: S, methods: &[&str]) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
        S: tonic::server::NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| {
            let call = service.clone().call(request);
            Box::pin(async move {
                match call.await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            })
        });
        self.services.insert(S::NAME, handler);
        self.methods.extend(methods.iter().map(|method| format!("/{}/{method}", S::NAME)));
        self
    }

    /// All calls that can be answered, as `/package.Service/Method`.
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    fn answer(&self, request: Request<Incoming>) -> Answering {
        let name = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        match self.services.get(name) {
            Some(handler) => handler(request),
            None => {
                let missing = tonic::Status::unimplemented(format!("unknown service {name}"));
                Box::pin(async move { missing.into_http() })
            }
        }
    }
}

/// Answers the calls of a peer until it goes away or says that it has none any more.
pub async fn serve(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, routes: Routes) -> Result<(), GrpcError> {
    let tasks = Tasks::default();
    let service = hyper::service::service_fn(move |request| {
        let answer = routes.answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let ended = hyper::server::conn::http2::Builder::new(tasks.clone())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .serve_connection(TokioIo::new(io), service)
        .await;
    tasks.0.close();
    tasks.0.wait().await;
    ended.map_err(|source| GrpcError { doing: "serve gRPC", source })
}

/// A connection broke off, or the peer does not speak HTTP/2.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct GrpcError {
    doing: &'static str,
    source: hyper::Error,
}

/// A way to call the services of a peer.
#[derive(Clone)]
pub struct Channel(SendRequest<Body>);

/// What has to be polled for the calls of a [`Channel`] to go on; ready when the peer is gone.
pub type Driver = Pin<Box<dyn Future<Output = Result<(), GrpcError>> + Send>>;

impl Channel {
    /// Begins to speak HTTP/2 as the calling side.
    pub async fn connect(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<(Channel, Driver), GrpcError> {
        let tasks = Tasks::default();
        let (sender, connection) = hyper::client::conn::http2::Builder::new(tasks.clone())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|source| GrpcError { doing: "begin gRPC", source })?;
        let driver = Box::pin(async move {
            let ended = connection.await;
            tasks.0.close();
            tasks.0.wait().await;
            ended.map_err(|source| GrpcError { doing: "call over gRPC", source })
        });
        Ok((Channel(sender), driver))
    }

    /// The authority that requests name; no peer looks at it.
    pub fn origin() -> Uri {
        Uri::from_static("http://localhost")
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Values for a header of gRPC in BuildKit's way: as they are if all can be, else all of them escaped as in a query, which a
/// header `NAME-encoded` tells.
pub fn insert_values(metadata: &mut tonic::metadata::MetadataMap, name: &'static str, values: &[String]) {
    let plain = |value: &String| value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let escaped = !values.iter().all(plain);
    let headers = metadata.as_mut();
    for value in values {
        let value = match escaped {
            true => url::form_urlencoded::byte_serialize(value.as_bytes()).collect(),
            false => value.clone(),
        };
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(name, value);
        }
    }
    if let (true, Ok(name)) = (escaped, http::HeaderName::try_from(format!("{name}-encoded"))) {
        headers.insert(name, HeaderValue::from_static("1"));
    }
}

/// The values of a header that [`insert_values`] or BuildKit wrote.
pub fn values(metadata: &tonic::metadata::MetadataMap, name: &str) -> Vec<String> {
    let escaped =
        metadata.get(format!("{name}-encoded")).is_some_and(|value| matches!(value.as_bytes(), b"1" | b"true"));
    let texts = metadata.get_all(name).iter().filter_map(|value| value.to_str().ok());
    match escaped {
        true => texts.map(unescape).collect(),
        false => texts.map(str::to_owned).collect(),
    }
}

/// Undoes query escaping of one value.
fn unescape(value: &str) -> String {
    let mut pairs = url::form_urlencoded::parse(value.as_bytes());
    pairs.next().map(|(key, _)| key.into_owned()).unwrap_or_default()
}

/// An error of a peer's call as one of input and output.
pub fn io_error(status: tonic::Status) -> io::Error {
    use tonic::Code;
    let kind = match status.code() {
        Code::NotFound => io::ErrorKind::NotFound,
        Code::PermissionDenied | Code::Unauthenticated => io::ErrorKind::PermissionDenied,
        Code::AlreadyExists => io::ErrorKind::AlreadyExists,
        Code::Unavailable | Code::Cancelled => io::ErrorKind::ConnectionAborted,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, status.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_a_header() {
        for given in [vec!["a b", "*.c"], vec!["ü&=+%", "plain"], vec!["two\nlines"], vec![""], vec![]] {
            let given: Vec<String> = given.into_iter().map(str::to_owned).collect();
            let mut metadata = tonic::metadata::MetadataMap::new();
            insert_values(&mut metadata, "exclude-patterns", &given);
            assert_eq!(values(&metadata, "exclude-patterns"), given);
        }
    }
}

//! The client: where to connect, which version to speak, and the connections kept for the next request.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::Method;
use http_body_util::combinators::BoxBody;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::io::connect;
use crate::request::RequestBuilder;
use crate::tls::{Tls, TlsFiles};

pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// The newest version of the API that this client speaks.
pub const NEWEST_API: ApiVersion = ApiVersion { major: 1, minor: 51 };

/// A version of the Engine API, `1.51`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// Before the dot.
    pub major: u16,
    /// After the dot.
    pub minor: u16,
}

impl FromStr for ApiVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text
            .trim_start_matches('v')
            .split_once('.')
            .and_then(|(major, minor)| Some(ApiVersion { major: major.parse().ok()?, minor: minor.parse().ok()? }));
        parsed.ok_or_else(|| Error::Version(text.to_owned()))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a client needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the engine listens.
    pub endpoint: Endpoint,
    /// TLS of a `tcp://` endpoint.
    pub tls: Option<TlsFiles>,
    /// A version to speak whatever the server offers (`DOCKER_API_VERSION`).
    pub version: Option<ApiVersion>,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Headers sent with every request (`HttpHeaders` of the client's config file).
    pub headers: Vec<(String, String)>,
}

impl Config {
    /// A plain connection to `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        let user_agent = concat!("skep/", env!("CARGO_PKG_VERSION")).to_owned();
        Config { endpoint, tls: None, version: None, user_agent, headers: Vec::new() }
    }
}

/// A client of one engine. Cheap to clone; clones share connections and the negotiated version.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    tls: Option<Tls>,
    /// major << 16 | minor.
    version: AtomicU32,
    /// No answer has to be looked at for a lower version any more.
    settled: AtomicBool,
    idle: Mutex<Vec<SendRequest<Body>>>,
}

impl Client {
    /// A client for `config`. Nothing is connected yet.
    pub fn new(config: Config) -> Result<Self> {
        let tls = config.tls.as_ref().map(Tls::load).transpose()?;
        let version = config.version.unwrap_or(NEWEST_API);
        let settled = AtomicBool::new(config.version.is_some());
        let inner = Inner { config, tls, version: AtomicU32::new(pack(version)), settled, idle: Mutex::default() };
        Ok(Client { inner: Arc::new(inner) })
    }

    /// The address this client talks to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.config.endpoint
    }

    /// The version spoken: final once an answer has come.
    pub fn version(&self) -> ApiVersion {
        unpack(self.inner.version.load(Ordering::Relaxed))
    }

    /// Starts a request. `path` is without version and already percent-encoded where it holds foreign words
    /// ([`crate::encode_path`]).
    pub fn request(&self, method: Method, path: impl Into<String>) -> RequestBuilder<'_> {
        RequestBuilder::new(self, method, path.into())
    }

    /// GET, decoded.
    pub async fn get<T: DeserializeOwned>(&self, path: impl Into<String>) -> Result<T> {
        self.request(Method::GET, path).send().await?.json().await
    }

    /// GET, the bytes as they came.
    pub async fn get_raw(&self, path: impl Into<String>) -> Result<Bytes> {
        self.request(Method::GET, path).send().await?.bytes().await
    }

    /// POST of a JSON body, the answer decoded.
    pub async fn post<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: impl Into<String>,
        body: &B,
    ) -> Result<T> {
        self.request(Method::POST, path).json(body)?.send().await?.json().await
    }

    /// POST without a body; the answer is of no interest.
    pub async fn post_empty(&self, path: impl Into<String>) -> Result<()> {
        self.request(Method::POST, path).send().await?.bytes().await.map(drop)
    }

    /// DELETE; the answer is of no interest.
    pub async fn delete(&self, path: impl Into<String>) -> Result<()> {
        self.request(Method::DELETE, path).send().await?.bytes().await.map(drop)
    }

    /// Asks `/_ping` for the server's version, if no answer told it yet.
    pub async fn negotiate(&self) -> Result<()> {
        if !self.inner.settled.load(Ordering::Relaxed) {
            self.request(Method::HEAD, "/_ping").unversioned().send().await?.bytes().await?;
        }
        Ok(())
    }

    /// Connects now and keeps the connection for the first request: tells early whether anyone listens.
    pub async fn connect(&self) -> Result<()> {
        let sender = self.sender().await?;
        self.keep(sender);
        Ok(())
    }

    /// A raw connection to the engine, for passing bytes through unseen (`system dial-stdio`).
    pub async fn dial(&self) -> Result<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static> {
        connect(&self.inner.config.endpoint, self.inner.tls.as_ref()).await
    }

    /// A connection that is ready to send: one kept from an earlier request, or a new one.
    pub(crate) async fn sender(&self) -> Result<SendRequest<Body>> {
        loop {
            let kept = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut sender) = kept else { break };
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let io = connect(&self.inner.config.endpoint, self.inner.tls.as_ref()).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        // The task ends with the connection; an error reaches whoever waits for the answer.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    pub(crate) fn keep(&self, sender: SendRequest<Body>) {
        if !sender.is_closed() {
            self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        }
    }

    /// Takes note of the version a server told; true if the request has to be repeated with a lower one.
    pub(crate) fn learn_version(&self, told: Option<ApiVersion>) -> bool {
        if self.inner.settled.swap(true, Ordering::Relaxed) {
            return false;
        }
        // A server that says nothing is older than the header: 1.24 is the oldest still in use.
        let told = told.unwrap_or(ApiVersion { major: 1, minor: 24 });
        let lower = told < self.version();
        if lower {
            self.inner.version.store(pack(told), Ordering::Relaxed);
        }
        lower
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.inner.settled.load(Ordering::Relaxed)
    }
}

fn pack(version: ApiVersion) -> u32 {
    u32::from(version.major) << 16 | u32::from(version.minor)
}

fn unpack(packed: u32) -> ApiVersion {
    let [major_high, major_low, minor_high, minor_low] = packed.to_be_bytes();
    ApiVersion {
        major: u16::from_be_bytes([major_high, major_low]),
        minor: u16::from_be_bytes([minor_high, minor_low]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let parse = |text: &str| text.parse::<ApiVersion>().expect(text);
        assert!(parse("1.9") < parse("1.24"));
        assert_eq!(parse("v1.51"), NEWEST_API);
        assert_eq!(unpack(pack(parse("1.47"))).to_string(), "1.47");
        assert!("1".parse::<ApiVersion>().is_err());
    }
}

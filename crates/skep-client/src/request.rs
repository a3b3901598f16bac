//! One request: path, query, headers, body; sent, or turned into a raw stream.

use std::fmt::Write as _;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::client::conn::http1::SendRequest;
use serde::Serialize;

use crate::client::{Body, Client};
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::hijack::Hijacked;
use crate::response::{Response, api_error};

const API_VERSION: HeaderName = HeaderName::from_static("api-version");

enum Payload {
    Empty,
    Bytes(Bytes),
    Stream(Body),
}

/// A request being put together.
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder<'c> {
    client: &'c Client,
    method: Method,
    path: String,
    headers: Vec<(HeaderName, String)>,
    payload: Payload,
    versioned: bool,
}

impl<'c> RequestBuilder<'c> {
    pub(crate) fn new(client: &'c Client, method: Method, path: String) -> Self {
        RequestBuilder { client, method, path, headers: Vec::new(), payload: Payload::Empty, versioned: true }
    }

    /// Adds `name=value` to the query.
    pub fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        self.path.push_str(name);
        self.path.push('=');
        encode_into(&mut self.path, value.as_ref(), QUERY_SAFE);
        self
    }

    /// Adds `name=value` if there is a value that is not empty.
    pub fn query_opt(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) if !value.as_ref().is_empty() => self.query(name, value),
            _ => self,
        }
    }

    /// Adds `name=1` if `on`.
    pub fn query_flag(self, name: &str, on: bool) -> Self {
        if on { self.query(name, "1") } else { self }
    }

    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends `body` as JSON.
    pub fn json<B: Serialize + ?Sized>(mut self, body: &B) -> Result<Self> {
        self.payload = Payload::Bytes(Bytes::from(serde_json::to_vec(body).map_err(Error::Encode)?));
        Ok(self.header(CONTENT_TYPE, "application/json"))
    }

    /// Sends bytes as they are, of the type `content_type`.
    pub fn bytes(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.payload = Payload::Bytes(body.into());
        self.header(CONTENT_TYPE, content_type)
    }

    /// Sends a stream of unknown length.
    pub fn stream<S>(mut self, content_type: &str, stream: S) -> Self
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static,
    {
        self.payload = Payload::Stream(BodyExt::boxed(StreamBody::new(stream.map_ok(Frame::data))));
        self.header(CONTENT_TYPE, content_type)
    }

    /// Leaves the version out of the path.
    pub fn unversioned(mut self) -> Self {
        self.versioned = false;
        self
    }

    /// Sends the request. A status of 400 and above is an [`Error::Api`].
    pub async fn send(self) -> Result<Response> {
        let client = self.client.clone();
        let (response, sender) = self.exchange(None).await?;
        let response = Response::new(response, client, sender);
        if response.status().is_client_error() || response.status().is_server_error() {
            return Err(api_error(response).await);
        }
        Ok(response)
    }

    /// Sends the request and takes the connection over for a raw two-way stream (`attach`, `exec`).
    pub async fn upgrade(self) -> Result<Hijacked> {
        self.upgrade_to("tcp").await
    }

    /// As [`upgrade`](Self::upgrade), to a protocol of this name: `h2c` for a build's calls.
    pub async fn upgrade_to(self, protocol: &'static str) -> Result<Hijacked> {
        let client = self.client.clone();
        let (response, sender) = self.exchange(Some(protocol)).await?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let response = Response::new(response, client, sender);
            if status.is_client_error() || status.is_server_error() {
                return Err(api_error(response).await);
            }
            return Err(Error::NotUpgraded { protocol, status });
        }
        let content_type = header_text(response.headers(), &CONTENT_TYPE);
        let upgraded = hyper::upgrade::on(response).await?;
        Ok(Hijacked::new(upgraded, content_type))
    }

    async fn exchange(
        self,
        upgrade: Option<&'static str>,
    ) -> Result<(http::Response<hyper::body::Incoming>, SendRequest<Body>)> {
        let client = self.client;
        let RequestBuilder { method, path, headers, payload, versioned, .. } = self;
        let (payload, stream) = match payload {
            Payload::Empty => (Some(None), None),
            Payload::Bytes(bytes) => (Some(Some(bytes)), None),
            Payload::Stream(stream) => (None, Some(stream)),
        };
        if versioned && stream.is_some() && !client.is_settled() {
            Box::pin(client.negotiate()).await?;
        }
        let mut stream = stream;
        loop {
            let body = match (&payload, stream.take()) {
                (_, Some(stream)) => stream,
                (Some(Some(bytes)), None) => Full::new(bytes.clone()).map_err(|never| match never {}).boxed(),
                (_, None) => Empty::new().map_err(|never| match never {}).boxed(),
            };
            let target = match versioned {
                true => format!("/v{}{path}", client.version()),
                false => path.clone(),
            };
            let request = assemble(client, &method, &target, &headers, upgrade, body)?;
            let mut sender = client.sender().await?;
            let response = sender.send_request(request).await?;
            if client.is_settled() {
                return Ok((response, sender));
            }
            let told = header_text(response.headers(), &API_VERSION).and_then(|text| text.parse().ok());
            let refused = response.status() == StatusCode::BAD_REQUEST;
            let lower = client.learn_version(told);
            if !(versioned && lower && refused && payload.is_some()) {
                return Ok((response, sender));
            }
        }
    }
}

fn assemble(
    client: &Client,
    method: &Method,
    target: &str,
    headers: &[(HeaderName, String)],
    upgrade: Option<&'static str>,
    body: Body,
) -> Result<Request<Body>> {
    let config = &client.inner.config;
    let mut builder = Request::builder().method(method).uri(target).header(USER_AGENT, &config.user_agent);
    builder = match &config.endpoint {
        Endpoint::Tcp { host, port } if host.contains(':') => builder.header(HOST, format!("[{host}]:{port}")),
        Endpoint::Tcp { host, port } => builder.header(HOST, format!("{host}:{port}")),
        // What Docker's client sends where there is no host.
        Endpoint::Unix(_) | Endpoint::Ssh { .. } => {
            builder.header(HOST, HeaderValue::from_static("api.moby.localhost"))
        }
    };
    for (name, value) in &config.headers {
        builder = builder.header(name, value);
    }
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    if let Some(protocol) = upgrade {
        builder = builder.header(CONNECTION, HeaderValue::from_static("Upgrade"));
        builder = builder.header(UPGRADE, HeaderValue::from_static(protocol));
    }
    Ok(builder.body(body)?)
}

fn header_text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

const PATH_SAFE: &[u8] = b"-._~!$&'()*+,;=:@/";
const QUERY_SAFE: &[u8] = b"-._~";

/// Percent-encodes a word of a path. Slashes stay, for image names have them.
pub fn encode_path(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    encode_into(&mut out, word, PATH_SAFE);
    out
}

/// Percent-encodes a value of a query.
pub fn encode_query(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    encode_into(&mut out, value, QUERY_SAFE);
    out
}

fn encode_into(out: &mut String, text: &str, safe: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || safe.contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_cannot_leave_their_place() {
        assert_eq!(encode_path("reg:5000/a/b@sha256:0"), "reg:5000/a/b@sha256:0");
        assert_eq!(encode_path("a?b#c d%"), "a%3Fb%23c%20d%25");
        assert_eq!(encode_query("{\"a\":[\"x&y\"]}"), "%7B%22a%22%3A%5B%22x%26y%22%5D%7D");
    }
}

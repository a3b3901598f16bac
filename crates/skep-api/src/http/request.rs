//! A request, decoded as far as every handler needs it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use skep_engine::Engine;
use skep_wire::DecodeError;
use tokio_util::sync::CancellationToken;

use crate::buildkit::BuildKit;
use crate::http::ApiError;
use crate::http::answer::Body;
use crate::http::query::Query;
use crate::http::version::ApiVersion;

/// JSON bodies larger than this are refused. Docker's largest, a create with an inline seccomp profile, has some 20 kB.
const JSON_LIMIT: usize = 8 << 20;

/// One request.
pub(crate) struct Request {
    pub(crate) engine: Engine,
    pub(crate) builds: Arc<BuildKit>,
    pub(crate) version: ApiVersion,
    /// What the path's placeholders stand for, in order.
    pub(crate) params: Vec<String>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// The client asked for an upgrade of the connection.
    pub(crate) upgrade: bool,
    /// The server stops: answers without an end have to end.
    pub(crate) closing: CancellationToken,
}

impl Request {
    /// What the first placeholder of the path stands for.
    pub(crate) fn name(&self) -> &str {
        self.params.first().map_or("", String::as_str)
    }

    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The JSON body; a missing body is the default value.
    pub(crate) async fn json<T: DeserializeOwned + Default>(&mut self) -> Result<T, ApiError> {
        Ok(self.json_if_any().await?.unwrap_or_default())
    }

    /// The JSON body, if there is one.
    pub(crate) async fn json_if_any<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        let bytes = self.bytes().await?;
        let content_type = self.header(CONTENT_TYPE.as_str());
        if bytes.is_empty() && content_type.is_empty() {
            return Ok(None);
        }
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::invalid(match content_type {
                "" => "malformed Content-Type header (): mime: no media type".to_owned(),
                other => format!("unsupported Content-Type header ({other}): must be 'application/json'"),
            }));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        skep_wire::from_slice(&bytes).map(Some).map_err(|error| match error {
            DecodeError::Empty => ApiError::invalid("invalid JSON: got EOF while reading request body"),
            DecodeError::Trailing => ApiError::invalid("unexpected content after JSON"),
            error => ApiError::invalid(format!("invalid JSON: {error}")),
        })
    }

    async fn bytes(&mut self) -> Result<Bytes, ApiError> {
        let mut body = std::mem::replace(&mut self.body, crate::http::answer::full(Bytes::new()));
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| ApiError::invalid(format!("reading the request: {error}")))?;
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
            if bytes.len() > JSON_LIMIT {
                return Err(ApiError::invalid("http: request body too large"));
            }
        }
        Ok(bytes.freeze())
    }
}

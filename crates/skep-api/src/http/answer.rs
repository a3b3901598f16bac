//! What a handler answers.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

use crate::http::ApiError;
use crate::http::hijack::Session;

/// A body of either direction.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;
/// Why a body broke off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The answer to a request.
pub(crate) enum Answer {
    /// A response as HTTP knows it.
    Plain(Response<Body>),
    /// The connection becomes a process's streams.
    Hijack {
        /// What the client is told of the framing.
        content_type: &'static str,
        /// Takes the connection over.
        session: Session,
    },
    /// The connection speaks another protocol from here on.
    Upgrade {
        /// Which; the client has asked for it.
        protocol: &'static str,
        /// Takes the connection over.
        session: Session,
    },
}

impl Answer {
    /// 200 with JSON and a line end, as Go's encoder writes it.
    pub(crate) fn json(value: &impl Serialize) -> Result<Self, ApiError> {
        Self::json_with(StatusCode::OK, value)
    }

    /// JSON with another status.
    pub(crate) fn json_with(status: StatusCode, value: &impl Serialize) -> Result<Self, ApiError> {
        Ok(Self::bytes(status, "application/json", json_line(value)?))
    }

    /// A status and nothing else.
    pub(crate) fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(full(Bytes::new()));
        *response.status_mut() = status;
        Answer::Plain(response)
    }

    /// 204.
    pub(crate) fn no_content() -> Self {
        Self::empty(StatusCode::NO_CONTENT)
    }

    /// A whole body.
    pub(crate) fn bytes(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        let mut response = Response::new(full(bytes.into()));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Answer::Plain(response)
    }

    /// 200 and a body that comes piece by piece; the head goes out at once. An error breaks the connection off.
    pub(crate) fn stream<E: Into<BodyError>>(
        content_type: &'static str,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Self {
        let frames = pieces.map(|piece| piece.map(Frame::data).map_err(Into::into));
        let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Answer::Plain(response)
    }

    /// Adds a header to a plain answer.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let (Answer::Plain(response), Ok(value)) = (&mut self, HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
        self
    }
}

impl From<&ApiError> for Answer {
    fn from(error: &ApiError) -> Self {
        let status = error.status();
        if status == StatusCode::NOT_MODIFIED {
            return Answer::empty(status);
        }
        let body = skep_wire::ErrorBody { message: error.to_string() };
        Answer::bytes(status, "application/json", json_line(&body).unwrap_or_default())
    }
}

/// JSON and a line end.
pub(crate) fn json_line(value: &impl Serialize) -> Result<Bytes, ApiError> {
    let mut text = serde_json::to_vec(value)
        .map_err(|error| ApiError::new(skep_types::ErrorKind::System, format!("encoding the answer: {error}")))?;
    text.push(b'\n');
    Ok(text.into())
}

pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Bytes of a request's body, one by one, for operations that read an archive.
pub(crate) fn body_stream(body: Body) -> Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>> {
    Box::pin(body.into_data_stream().map(|piece| piece.map_err(std::io::Error::other)))
}

//! Building answers.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

/// Why the body of an answer broke off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// The digest of what is answered.
pub(crate) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// An answer on its way.
#[derive(Debug)]
pub(crate) struct Answer(pub(crate) Response<Body>);

impl Answer {
    /// A status without a body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        let mut answer = Answer::bytes(status, "", Bytes::new());
        answer.0.headers_mut().remove(CONTENT_TYPE);
        answer
    }

    /// A whole body.
    pub(crate) fn bytes(status: StatusCode, content_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let length = bytes.len();
        let mut response = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = status;
        let answer = Answer(response).header(CONTENT_TYPE, content_type);
        // 204 and 304 say nothing of a length.
        let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        if bodiless { answer } else { answer.header(CONTENT_LENGTH, &length.to_string()) }
    }

    /// JSON.
    pub(crate) fn json(content_type: &str, value: &impl Serialize) -> Self {
        // Values made of maps with text keys, texts and numbers can always be written.
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        Answer::bytes(StatusCode::OK, content_type, bytes)
    }

    /// `length` bytes that come piece by piece. An error breaks the connection off.
    pub(crate) fn stream<E: Into<BodyError>>(
        status: StatusCode,
        content_type: &str,
        length: u64,
        pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Self {
        let frames = pieces.map(|piece| piece.map(Frame::data).map_err(Into::into));
        let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
        *response.status_mut() = status;
        Answer(response).header(CONTENT_TYPE, content_type).header(CONTENT_LENGTH, &length.to_string())
    }

    /// Adds a header. What can't be one (it came from a client then) is left out.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers_mut().insert(name, value);
        }
        self
    }

    /// The digest of what is answered, or was stored.
    pub(crate) fn digest(self, digest: &crate::digest::ContentDigest) -> Self {
        self.header(DOCKER_CONTENT_DIGEST, &digest.to_string())
    }
}

//! A request, decoded as far as every handler needs it.

use http::{HeaderMap, HeaderName, Method};

use crate::auth::Caller;
use crate::http::body::RequestBody;
use crate::http::query::Query;

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: RequestBody,
    pub(crate) caller: Caller,
}

impl Request {
    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The client wants the head of the answer only.
    pub(crate) fn head_only(&self) -> bool {
        self.method == Method::HEAD
    }

    /// How many bytes the client will send, if it says so.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(http::header::CONTENT_LENGTH).parse().ok()
    }
}

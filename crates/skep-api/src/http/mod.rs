//! What lies below the meaning of a request.

pub(crate) mod answer;
pub(crate) mod connection;
pub(crate) mod drain;
pub(crate) mod error;
pub(crate) mod framing;
pub(crate) mod hijack;
pub(crate) mod query;
pub(crate) mod request;
pub(crate) mod router;
pub(crate) mod server;
pub(crate) mod version;

#[cfg(test)]
mod tests;

pub(crate) use answer::Answer;
pub(crate) use error::ApiError;
pub(crate) use request::Request;

//! What lies below the meaning of a request.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod endpoint;
pub(crate) mod error;
pub(crate) mod query;
pub(crate) mod range;
pub(crate) mod request;
pub(crate) mod server;

pub(crate) use request::Request;

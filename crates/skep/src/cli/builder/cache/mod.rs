//! `builder cache`: directories of `RUN --mount=type=cache`, by the names that Dockerfiles call them.

use skep_client::{Client, Method, RequestBuilder};

pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod ls;
pub(crate) mod rm;

/// A request about one of them.
fn request<'c>(client: &'c Client, method: Method, path: &str, name: &str) -> RequestBuilder<'c> {
    client.request(method, path).query("name", name)
}

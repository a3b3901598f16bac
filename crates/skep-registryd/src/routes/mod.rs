//! What each resource does, one file for each.

mod base;
mod blobs;
mod lists;
mod manifests;
mod page;
mod token;
mod uploads;

use http::Method;

use crate::error::{Code, Refusal, Result};
use crate::http::Request;
use crate::http::answer::Answer;
use crate::http::endpoint::Endpoint;
use crate::http::server::Shared;

/// Does what a request asks for. Whether it may is decided already.
pub(crate) async fn handle(shared: &Shared, endpoint: Endpoint, request: Request) -> Result<Answer> {
    let reads = request.method == Method::GET || request.method == Method::HEAD;
    match (endpoint, request.method.as_str()) {
        (Endpoint::Base, _) if reads => Ok(base::version()),
        (Endpoint::Health, _) if reads => base::health(shared).await,
        (Endpoint::Repositories, _) if reads => page::repositories(shared, &request).await,
        (Endpoint::Page(name), _) if reads => page::repository(shared, &name, &request).await,
        (Endpoint::Metrics, _) if reads => Ok(base::metrics(shared)),
        (Endpoint::Token, _) if reads => token::get(shared, &request).await,
        (Endpoint::Catalog, _) if reads => lists::catalog(shared, &request).await,
        (Endpoint::Tags(name), _) if reads => lists::tags(shared, &name, &request).await,
        (Endpoint::Referrers(name, digest), _) if reads => lists::referrers(shared, &name, &digest, &request).await,
        (Endpoint::Blob(name, digest), _) if reads => blobs::get(shared, &name, &digest, &request).await,
        (Endpoint::Blob(name, digest), "DELETE") => blobs::delete(shared, &name, &digest).await,
        (Endpoint::Manifest(name, reference), _) if reads => manifests::get(shared, &name, &reference, &request).await,
        (Endpoint::Manifest(name, reference), "PUT") => manifests::put(shared, &name, &reference, request).await,
        (Endpoint::Manifest(name, reference), "DELETE") => manifests::delete(shared, &name, &reference).await,
        (Endpoint::Uploads(name), "POST") => uploads::begin(shared, &name, request).await,
        (Endpoint::Upload(name, id), "GET") => uploads::status(shared, &name, &id).await,
        (Endpoint::Upload(name, id), "PATCH") => uploads::patch(shared, &name, &id, request).await,
        (Endpoint::Upload(name, id), "PUT") => uploads::finish(shared, &name, &id, request).await,
        (Endpoint::Upload(name, id), "DELETE") => uploads::cancel(shared, &name, &id).await,
        (endpoint, method) => {
            let refusal = Refusal::new(Code::Unsupported, format!("{method} is not supported here"));
            let answer = crate::http::error::answer(&refusal.into());
            Ok(answer.header(http::header::ALLOW, endpoint.allowed()))
        }
    }
}

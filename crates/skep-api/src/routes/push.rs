//! Images out to a registry.

use http::Method;
use skep_engine::model::image::{LayerCompression, PushImage};
use skep_types::Reference;
use tokio::sync::mpsc;

use super::images::{platform, reference};
use super::registry::credentials;
use super::transfer::{PENDING, progress};
use crate::convert;
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(Method::POST, "/images/{name}/push", push).cancellable()]
}

async fn push(request: Request) -> Result<Answer, ApiError> {
    let image = named(&request)?;
    let options =
        PushImage { platform: platform(&request)?, compression: compression(request.query.text("compression"))? };
    let credentials = credentials(&request);
    let engine = request.engine.clone();
    let (sender, receiver) = mpsc::channel(PENDING);
    let work =
        async move { engine.images().push(&image, &options, credentials.as_ref(), sender).await.map(|()| Vec::new()) };
    progress(work, receiver, convert::progress::push).await
}

/// The repository and the tag beside it; without one it is all tags.
fn named(request: &Request) -> Result<Reference, ApiError> {
    let image = reference(request.name(), request.query.text("tag"))?;
    if image.digest().is_some() {
        return Err(ApiError::invalid("cannot push a digest reference"));
    }
    Ok(image)
}

/// skep's own parameter: how layers are compressed.
fn compression(text: &str) -> Result<Option<LayerCompression>, ApiError> {
    match text {
        "" => Ok(None),
        "none" => Ok(Some(LayerCompression::None)),
        "gzip" => Ok(Some(LayerCompression::Gzip)),
        "zstd" => Ok(Some(LayerCompression::Zstd)),
        other => Err(ApiError::invalid(format!("invalid compression {other:?}: must be gzip, zstd or none"))),
    }
}

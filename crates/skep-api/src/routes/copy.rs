//! skep's own endpoints, for copying images between engines; `skep_wire`'s module `copy` describes them.

use futures_util::TryStreamExt;
use http::{Method, StatusCode};
use skep_wire::{CopiedImages, ImageOutline, LayerStacks};
use tokio_util::io::StreamReader;

use crate::convert;
use crate::convert::copy::digest;
use crate::http::answer::{BodyError, body_stream};
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/skep/images/{name}/outline", outline),
        route(Method::POST, "/skep/images", receive_image),
        route(Method::POST, "/skep/layers/lacking", lacking),
        route(Method::GET, "/skep/layers/{id}", layer),
        route(Method::PUT, "/skep/layers/{id}", receive_layer).cancellable(),
    ]
}

async fn outline(request: Request) -> Result<Answer, ApiError> {
    let outline = request.engine.images().outline(request.name()).await?;
    Answer::json(&convert::copy::to_wire(outline))
}

async fn lacking(mut request: Request) -> Result<Answer, ApiError> {
    let stacks: LayerStacks = request.json().await?;
    let stacks = stacks.layers.iter().map(|text| digest(text)).collect::<Result<Vec<_>, _>>()?;
    let lacking = request.engine.images().lacking(&stacks).await?;
    Answer::json(&LayerStacks { layers: lacking.iter().map(ToString::to_string).collect() })
}

async fn layer(request: Request) -> Result<Answer, ApiError> {
    let pieces = request.engine.images().layer_archive(&digest(request.name())?).await?;
    Ok(Answer::stream("application/zstd", pieces.map_err(|error| BodyError::from(error.to_string()))))
}

async fn receive_layer(request: Request) -> Result<Answer, ApiError> {
    let diff_id = digest(request.name())?;
    let parent = request.query.filled("parent").map(digest).transpose()?;
    let archive = StreamReader::new(body_stream(request.body));
    request.engine.images().receive_layer(diff_id, parent, archive).await?;
    Ok(Answer::empty(StatusCode::CREATED))
}

async fn receive_image(mut request: Request) -> Result<Answer, ApiError> {
    let outline: ImageOutline = request.json().await?;
    let ids = request.engine.images().receive_image(convert::copy::from_wire(outline)?).await?;
    let ids = ids.iter().map(ToString::to_string).collect();
    Answer::json_with(StatusCode::CREATED, &CopiedImages { ids })
}

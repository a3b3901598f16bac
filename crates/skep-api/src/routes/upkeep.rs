//! Upkeep of the data root: what Docker's API has no words for, below `/skep`.

use http::Method;
use skep_engine::model::request::PruneRequest;
use skep_wire::PrunePreview;

use super::images::prune_filters;
use crate::convert;
use crate::http::router::{Route, route};
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![route(Method::GET, "/skep/prune", preview)]
}

/// What a prune of the kinds in `type` would remove, with its `filters`; `all` as in `system prune --all`.
async fn preview(request: Request) -> Result<Answer, ApiError> {
    let kinds = request.query.all("type");
    if let Some(unknown) = kinds.iter().find(|kind| !["container", "image", "volume"].contains(&kind.as_str())) {
        return Err(ApiError::invalid(format!("unknown object type: {unknown}")));
    }
    let given = request.query.filters()?;
    let wanted = |kind: &str| kinds.iter().any(|wanted| wanted == kind);
    let images = wanted("image").then(|| prune_filters(given.clone())).transpose()?;
    let images = images.map(|mut filters| {
        filters.dangling = Some(!request.query.flag("all"));
        filters
    });
    let wish = PruneRequest {
        containers: wanted("container").then(|| given.clone()),
        volumes: wanted("volume").then(|| given.clone()),
        images,
    };
    let found = request.engine.preview_prune(&wish).await?;
    Answer::json(&PrunePreview {
        space_reclaimed: found.containers.reclaimed + found.volumes.reclaimed + found.images.reclaimed,
        containers_deleted: found.containers.removed,
        volumes_deleted: found.volumes.removed,
        images_deleted: found.images.removed.into_iter().map(convert::image::removal).collect(),
    })
}

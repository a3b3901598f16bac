//! Containers as objects: list, create, inspect, rename, remove, prune, top.

use std::collections::HashMap;

use chrono::Utc;
use http::{Method, StatusCode};
use skep_engine::model::request::{ListContainers, RemoveContainer};
use skep_types::ContainerName;
use skep_wire::{ContainerCreateRequest, ContainerCreateResponse, ContainerSummary, ContainerTop, ContainersPruned};

use crate::convert;
use crate::http::router::{Route, route};
use crate::http::version::ApiVersion;
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/containers/json", list),
        route(Method::POST, "/containers/create", create),
        route(Method::POST, "/containers/prune", prune),
        route(Method::GET, "/containers/{id}/json", inspect),
        route(Method::GET, "/containers/{id}/top", top),
        route(Method::POST, "/containers/{id}/rename", rename),
        route(Method::DELETE, "/containers/{id}", remove),
    ]
}

async fn list(request: Request) -> Result<Answer, ApiError> {
    let limit = request.query.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|&limit| limit > 0);
    let options = ListContainers { all: request.query.flag("all"), limit, filters: request.query.filters()? };
    let (sizes, now) = (request.query.flag("size"), Utc::now());
    let (mut names, mut manifests) = (HashMap::new(), HashMap::new());
    let mut rows = Vec::new();
    for view in request.engine.list_containers(&options)? {
        let size = if sizes { Some(request.engine.container_size(view.id).await?) } else { None };
        let behind =
            names.entry(view.config.image.clone()).or_insert_with_key(|name| request.engine.images().behind(name));
        // The name the user gave, as long as it leads there.
        let current = behind.contains(&view.image_id).then_some(view.image_id);
        let manifest = match request.version >= ApiVersion::minor(48) {
            true => {
                let known = manifests.entry(view.image_id);
                known.or_insert_with_key(|id| request.engine.images().manifest_of(id)).clone()
            }
            false => None,
        };
        rows.push(ContainerSummary {
            image_manifest_descriptor: manifest.map(convert::image::descriptor),
            ..convert::summary::container(&view, current, size, now)
        });
    }
    Answer::json(&rows)
}

async fn create(mut request: Request) -> Result<Answer, ApiError> {
    let Some(body) = request.json_if_any::<ContainerCreateRequest>().await? else {
        return Err(ApiError::invalid("invalid JSON: got EOF while reading request body"));
    };
    let wanted = convert::create::create(request.query.text("name"), request.query.text("platform"), body)?;
    let created = request.engine.create_container(wanted).await?;
    let response = ContainerCreateResponse { id: created.id.to_string(), warnings: created.warnings };
    Answer::json_with(StatusCode::CREATED, &response)
}

async fn inspect(request: Request) -> Result<Answer, ApiError> {
    let view = request.engine.container(request.name())?;
    let size = if request.query.flag("size") { Some(request.engine.container_size(view.id).await?) } else { None };
    Answer::json(&convert::inspect::container(&view, size, request.engine.config()))
}

async fn top(request: Request) -> Result<Answer, ApiError> {
    let arguments = request.query.filled("ps_args").unwrap_or("-ef");
    let table = request.engine.container_top(request.name(), arguments).await?;
    Answer::json(&ContainerTop { processes: table.processes, titles: table.titles })
}

async fn rename(request: Request) -> Result<Answer, ApiError> {
    let name = request.query.text("name");
    if name.is_empty() {
        return Err(ApiError::invalid("Neither old nor new names may be empty"));
    }
    request.engine.container(request.name())?;
    let name = name.parse::<ContainerName>().map_err(|_| {
        ApiError::invalid(format!(
            "Error when allocating new name: Invalid container name (/{}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            name.trim_start_matches('/')
        ))
    })?;
    request.engine.rename_container(request.name(), name).await?;
    Ok(Answer::no_content())
}

async fn remove(request: Request) -> Result<Answer, ApiError> {
    if request.query.flag("link") {
        return Err(ApiError::unsupported("removing a link (link=1)"));
    }
    let options = RemoveContainer { force: request.query.flag("force"), volumes: request.query.flag("v") };
    request.engine.remove_container(request.name(), options).await?;
    Ok(Answer::no_content())
}

async fn prune(request: Request) -> Result<Answer, ApiError> {
    let pruned = request.engine.prune_containers(&request.query.filters()?).await?;
    Answer::json(&ContainersPruned { containers_deleted: pruned.removed, space_reclaimed: pruned.reclaimed })
}

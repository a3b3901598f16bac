//! Images as objects: list, inspect, history, tag, remove, prune.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use skep_engine::Engine;
use skep_engine::images::ImageError;
use skep_engine::model::image::{ImageFilters, ImageId, ListImages, RemoveImage};
use skep_engine::model::request::ListContainers;
use skep_types::{Platform, Reference};
use skep_wire::{DescriptorPlatform, ImageSummary, ImagesPruned};

use crate::convert;
use crate::http::router::{Route, route};
use crate::http::version::ApiVersion;
use crate::http::{Answer, ApiError, Request};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        route(Method::GET, "/images/json", list),
        route(Method::POST, "/images/prune", prune),
        route(Method::GET, "/images/{name}/json", inspect),
        route(Method::GET, "/images/{name}/history", history),
        route(Method::POST, "/images/{name}/tag", tag),
        route(Method::DELETE, "/images/{name}", remove),
    ]
}

async fn list(request: Request) -> Result<Answer, ApiError> {
    let query = &request.query;
    if query.filled("filter").is_some() {
        return Err(ApiError::unsupported("the parameter filter (use filters)"));
    }
    let filters = query.filters()?;
    if filters.contains_key("label!") {
        return Err(ApiError::invalid("invalid filter 'label!'"));
    }
    let options = ListImages {
        all: query.flag("all"),
        filters: self::filters(filters)?,
        shared_size: query.flag("shared-size"),
        manifests: query.flag("manifests") && request.version >= ApiVersion::minor(47),
    };
    let engine = request.engine.clone();
    let images = blocking(move || engine.images().list(&options)).await?;
    let users = users(&request.engine)?;
    let of = |id: &ImageId| users.get(id).cloned().unwrap_or_default();
    let mut rows = Vec::new();
    for mut image in images {
        // Older clients expect that nobody counted.
        let counted = request.version >= ApiVersion::minor(51);
        let containers = counted.then(|| image.family.iter().map(|id| of(id).len()).sum());
        let manifests = std::mem::take(&mut image.manifests);
        let manifests = manifests.into_iter().map(|one| convert::image::manifest(one, &of)).collect();
        rows.push(ImageSummary { manifests, ..convert::image::summary(image, containers, request.version) });
    }
    Answer::json(&rows)
}

/// The ids of the containers of each image.
fn users(engine: &Engine) -> Result<BTreeMap<ImageId, Vec<String>>, ApiError> {
    let all = ListContainers { all: true, ..ListContainers::default() };
    let mut users: BTreeMap<ImageId, Vec<String>> = BTreeMap::new();
    for view in engine.list_containers(&all)? {
        users.entry(view.image_id).or_default().push(view.id.to_string());
    }
    Ok(users)
}

/// The engine's image index is read from disk.
pub(crate) async fn blocking<T: Send + 'static, E: Into<ApiError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(ApiError::new(skep_types::ErrorKind::System, format!("the request broke off: {error}"))),
    }
}

/// The filters of a prune, which has fewer than a list.
pub(crate) fn prune_filters(given: std::collections::BTreeMap<String, Vec<String>>) -> Result<ImageFilters, ApiError> {
    match given.keys().find(|key| !["dangling", "label", "label!", "until"].contains(&key.as_str())) {
        Some(key) => Err(ApiError::invalid(format!("invalid filter '{key}'"))),
        None => filters(given),
    }
}

fn filters(given: std::collections::BTreeMap<String, Vec<String>>) -> Result<ImageFilters, ApiError> {
    let mut filters = ImageFilters::default();
    for (key, values) in given {
        match key.as_str() {
            "dangling" => filters.dangling = flag(&key, &values)?,
            "label" => filters.labels = values,
            "label!" => filters.without_labels = values,
            "before" => filters.before = values,
            "since" => filters.since = values,
            "reference" => filters.references = values,
            "until" => filters.until = until(&values)?,
            _ => return Err(ApiError::invalid(format!("invalid filter '{key}'"))),
        }
    }
    Ok(filters)
}

/// A filter that is true or false. Both at once, like neither, is no filter.
pub(crate) fn flag(key: &str, values: &[String]) -> Result<Option<bool>, ApiError> {
    let mut found = None;
    for value in values {
        let value = match value.as_str() {
            "1" | "true" => true,
            "0" | "false" => false,
            _ => return Err(ApiError::invalid(format!("invalid filter '{key}=[{}]'", values.join(" ")))),
        };
        if found.is_some_and(|other| other != value) {
            return Err(ApiError::invalid(format!("invalid filter '{key}=[{}]'", values.join(" "))));
        }
        found = Some(value);
    }
    Ok(found)
}

/// A point in time: a timestamp, or a duration before now.
fn until(values: &[String]) -> Result<Option<chrono::DateTime<chrono::Utc>>, ApiError> {
    let [value] = values else {
        return Err(ApiError::invalid("more than one until filter specified"));
    };
    crate::http::query::time_or_age(value)
        .map(Some)
        .ok_or_else(|| ApiError::invalid(format!("failed to parse value as time or duration: {value:?}")))
}

async fn inspect(request: Request) -> Result<Answer, ApiError> {
    let (engine, name, platform) = (request.engine.clone(), request.name().to_owned(), platform(&request)?);
    let wants_manifests = request.query.flag("manifests") && request.version >= ApiVersion::minor(48);
    if wants_manifests && platform.is_some() {
        return Err(ApiError::invalid("conflicting options: manifests and platform options cannot both be set"));
    }
    let (details, manifests) = blocking(move || {
        let details = engine.images().inspect(&name, platform.as_ref())?;
        let manifests = if wants_manifests { engine.images().manifests(&name)? } else { Vec::new() };
        Ok::<_, ImageError>((details, manifests))
    })
    .await?;
    let users = if manifests.is_empty() { BTreeMap::new() } else { users(&request.engine)? };
    let of = |id: &ImageId| users.get(id).cloned().unwrap_or_default();
    let manifests = manifests.into_iter().map(|one| convert::image::manifest(one, &of)).collect();
    convert::image::details(details, manifests, request.version).and_then(|details| Answer::json(&details))
}

async fn history(request: Request) -> Result<Answer, ApiError> {
    let (engine, name, platform) = (request.engine.clone(), request.name().to_owned(), platform(&request)?);
    let entries = blocking(move || engine.images().history(&name, platform.as_ref())).await?;
    Answer::json(&entries.into_iter().map(convert::image::history).collect::<Vec<_>>())
}

async fn tag(request: Request) -> Result<Answer, ApiError> {
    let target = reference(request.query.text("repo"), request.query.text("tag"))?;
    request.engine.images().tag(request.name(), &target).await?;
    Ok(Answer::empty(StatusCode::CREATED))
}

/// A repository, and a tag or a digest that stands beside it or is part of it.
pub(crate) fn reference(repository: &str, tag: &str) -> Result<Reference, ApiError> {
    let reference: Reference = repository.parse()?;
    match tag {
        "" => Ok(reference),
        tag => match tag.parse() {
            Ok(digest) => Ok(reference.with_digest(digest)),
            Err(_) => reference.with_tag(tag).map_err(|_| ApiError::invalid("invalid tag format")),
        },
    }
}

/// The platform that a request asks for.
pub(crate) fn platform(request: &Request) -> Result<Option<Platform>, ApiError> {
    request.query.filled("platform").map(parse_platform).transpose()
}

/// The text form, or from v1.48 on the JSON of an OCI platform.
fn parse_platform(text: &str) -> Result<Platform, ApiError> {
    if text.starts_with('{') {
        let platform: Platform = skep_wire::from_str::<DescriptorPlatform>(text)
            .map(|wire| Platform { os: wire.os, architecture: wire.architecture, variant: wire.variant })
            .map_err(|error| ApiError::invalid(format!("failed to parse platform: {error}")))?;
        if platform.os.is_empty() != platform.architecture.is_empty() {
            return Err(ApiError::invalid("both OS and Architecture must be provided"));
        }
        return Ok(platform);
    }
    text.parse().map_err(|error: skep_types::PlatformError| ApiError::invalid(error.to_string()))
}

async fn remove(request: Request) -> Result<Answer, ApiError> {
    let query = &request.query;
    let platforms = query.all("platforms");
    let platforms = platforms.iter().map(|text| parse_platform(text)).collect::<Result<Vec<_>, _>>()?;
    let options = RemoveImage { platforms, force: query.flag("force"), no_prune: query.flag("noprune") };
    let removed = request.engine.remove_image(request.name(), options).await?;
    Answer::json(&removed.into_iter().map(convert::image::removal).collect::<Vec<_>>())
}

async fn prune(request: Request) -> Result<Answer, ApiError> {
    let pruned = request.engine.prune_images(&prune_filters(request.query.filters()?)?).await?;
    Answer::json(&ImagesPruned {
        images_deleted: pruned.removed.into_iter().map(convert::image::removal).collect(),
        space_reclaimed: pruned.reclaimed,
    })
}

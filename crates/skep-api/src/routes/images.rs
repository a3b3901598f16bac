//! Images as objects: list, inspect, history, tag, remove, prune.

use http::{Method, StatusCode};
use skep_engine::model::image::{ImageFilters, ListImages, RemoveImage};
use skep_types::{Platform, Reference};
use skep_wire::ImagesPruned;

use crate::convert;
use crate::http::router::{Route, route};
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
    let options = ListImages {
        all: query.flag("all"),
        filters: filters(query.filters()?)?,
        shared_size: query.flag("shared-size"),
    };
    let engine = request.engine.clone();
    let images = blocking(move || engine.images().list(&options)).await?;
    let rows: Vec<_> = images.into_iter().map(|image| convert::image::summary(image, None, request.version)).collect();
    Answer::json(&rows)
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
        .ok_or_else(|| ApiError::invalid(format!("invalid filter 'until={value}'")))
}

async fn inspect(request: Request) -> Result<Answer, ApiError> {
    if request.query.flag("manifests") {
        return Err(ApiError::unsupported("the parameter manifests"));
    }
    let (engine, name, platform) = (request.engine.clone(), request.name().to_owned(), platform(&request)?);
    let details = blocking(move || engine.images().inspect(&name, platform.as_ref())).await?;
    convert::image::details(details, request.version).and_then(|details| Answer::json(&details))
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
        return skep_wire::from_str(text).map_err(|error| ApiError::invalid(format!("invalid platform: {error}")));
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

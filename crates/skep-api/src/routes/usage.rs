//! Disk usage: `system df`.

use std::collections::{BTreeMap, HashSet};

use chrono::Utc;
use http::Method;
use skep_engine::Engine;
use skep_engine::model::image::ListImages;
use skep_engine::model::request::ListContainers;
use skep_engine::model::view::MountKind;
use skep_wire::{BuildCache, ContainerSummary, DiskUsage, ImageSummary, Volume, VolumeUsage};

use super::images::blocking;
use crate::convert;
use crate::http::router::{Route, route};
use crate::http::version::ApiVersion;
use crate::http::{Answer, ApiError, Request};

const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

pub(crate) fn routes() -> Vec<Route> {
    vec![route(Method::GET, "/system/df", usage)]
}

async fn usage(request: Request) -> Result<Answer, ApiError> {
    let chosen: HashSet<String> = request.query.all("type").into_iter().collect();
    if let Some(unknown) = chosen.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(ApiError::invalid(format!("unknown object type: {unknown}")));
    }
    let wanted = |kind: &str| chosen.is_empty() || chosen.contains(kind);
    let mut usage = DiskUsage::default();
    if wanted("image") {
        let (layers_size, images) = images(&request.engine, request.version).await?;
        (usage.layers_size, usage.images) = (layers_size, Some(images));
    }
    if wanted("container") {
        usage.containers = Some(containers(&request.engine).await?);
    }
    if wanted("volume") {
        usage.volumes = Some(volumes(&request.engine).await?);
    }
    if wanted("build-cache") {
        let caches = build_cache(&request.engine).await?;
        let size = caches.iter().filter(|cache| !cache.shared).map(|cache| cache.size).sum();
        usage.builder_size = (request.version < ApiVersion::minor(42)).then_some(size);
        usage.build_cache = Some(caches);
    }
    Answer::json(&usage)
}

fn everything() -> ListContainers {
    ListContainers { all: true, ..ListContainers::default() }
}

/// The images, and the bytes of their layers, each layer counted once.
async fn images(engine: &Engine, version: ApiVersion) -> Result<(i64, Vec<ImageSummary>), ApiError> {
    let mut users: BTreeMap<_, usize> = BTreeMap::new();
    for view in engine.list_containers(&everything())? {
        *users.entry(view.image_id).or_default() += 1;
    }
    let store = engine.clone();
    blocking(move || {
        let options = ListImages { shared_size: true, ..ListImages::default() };
        let images = store.images().list(&options)?;
        let layers = store.images().layers_size()?;
        let rows = images.into_iter().map(|image| {
            let count = users.get(&image.id).copied().unwrap_or_default();
            convert::image::summary(image, Some(count), version)
        });
        Ok::<_, skep_engine::images::ImageError>((i64::try_from(layers).unwrap_or(i64::MAX), rows.collect()))
    })
    .await
}

async fn containers(engine: &Engine) -> Result<Vec<ContainerSummary>, ApiError> {
    let now = Utc::now();
    let mut rows = Vec::new();
    for view in engine.list_containers(&everything())? {
        let size = engine.container_size(view.id).await?;
        let current = engine.images().resolve(&view.config.image).ok().map(|image| image.id);
        rows.push(convert::summary::container(&view, current, Some(size), now));
    }
    Ok(rows)
}

/// The volumes, how many containers use each, and their sizes.
async fn volumes(engine: &Engine) -> Result<Vec<Volume>, ApiError> {
    let mut users: BTreeMap<String, i64> = BTreeMap::new();
    for view in engine.list_containers(&everything())? {
        let names: HashSet<&str> = view
            .mounts
            .iter()
            .filter(|mount| mount.kind == MountKind::Volume)
            .map(|mount| mount.name.as_str())
            .collect();
        names.into_iter().for_each(|name| *users.entry(name.to_owned()).or_default() += 1);
    }
    let mut rows = Vec::new();
    for volume in engine.list_volumes(&BTreeMap::new())? {
        let ref_count = users.get(volume.name.as_str()).copied().unwrap_or_default();
        let size = i64::try_from(engine.volume_size(&volume).await?).unwrap_or(i64::MAX);
        let usage = VolumeUsage { ref_count, size };
        rows.push(Volume { usage_data: Some(usage), ..convert::network::volume(volume) });
    }
    Ok(rows)
}

/// What builds keep.
async fn build_cache(engine: &Engine) -> Result<Vec<BuildCache>, ApiError> {
    Ok(engine.build_cache().await?.into_iter().map(cache_row).collect())
}

/// A thing that builds keep.
pub(crate) fn cache_row(one: skep_build::cache::Listed) -> BuildCache {
    let record = one.record;
    BuildCache {
        id: record.id(),
        parents: record.parent_ids(),
        kind: record.kind.name().to_owned(),
        in_use: one.in_use,
        shared: one.shared,
        size: i64::try_from(record.size).unwrap_or(i64::MAX),
        created_at: record.created.into(),
        last_used_at: record.last_used.map(Into::into),
        usage_count: i64::try_from(record.uses).unwrap_or(i64::MAX),
        description: record.description,
    }
}

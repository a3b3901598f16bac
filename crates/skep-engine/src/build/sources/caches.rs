//! Caches of builds elsewhere, in BuildKit's form: in a registry, or in a directory of the client.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_build::BuildError;
use skep_build::cache::read_config;
use skep_build::graph::ImageSource;
use skep_build::request::{CacheRef, PullMode};
use skep_build::worker::{Context, Imported, ImportedResult};
use skep_registry::{Descriptor, Manifest};
use skep_types::{Digest, Reference};

use super::image::{self, From, credentials};
use super::layout::{Stored, document};
use crate::engine::Inner;
use crate::images::base::cache_of;

/// The annotation of a layer's blob that says what it is without its compression.
pub(in crate::build) const UNCOMPRESSED: &str = "containerd.io/uncompressed";

/// Reads what a cache has.
pub(in crate::build) async fn import(
    engine: &Arc<Inner>,
    cache: &CacheRef,
    context: &Context,
) -> Result<Imported, BuildError> {
    let attribute = |name: &str| cache.attributes.get(name).map(String::as_str).unwrap_or_default();
    let failed = |error: BuildError| {
        let message = format!("failed to configure {} cache importer: {}", cache.kind, error.message);
        BuildError { message, ..error }
    };
    match cache.kind.as_str() {
        "registry" => registry(engine, attribute("ref"), context).await.map_err(failed),
        _ => local(engine, attribute("src"), attribute("digest"), context).await.map_err(failed),
    }
}

async fn registry(engine: &Arc<Inner>, name: &str, context: &Context) -> Result<Imported, BuildError> {
    let reference = name.parse::<Reference>().map_err(|error| BuildError::invalid(error.to_string()))?.or_latest();
    let login = credentials(&reference, context).await?;
    let there = engine.images.cache_there(&reference, login.as_ref()).await;
    let Some(there) = there.map_err(|error| image::failed(&reference, error))? else {
        let source = ImageSource { reference, layout: None, pull: PullMode::Always };
        return Ok(Imported::Image(Box::new(image::resolve(engine, &source, context).await?)));
    };
    let from = |layers: Vec<(Digest, Descriptor)>| {
        let (diff_ids, blobs) = layers.into_iter().unzip();
        From::Registry(Box::new(there.remote(blobs, diff_ids)))
    };
    results(&there.config, &there.layers, from).map(Imported::Results)
}

async fn local(engine: &Arc<Inner>, directory: &str, digest: &str, context: &Context) -> Result<Imported, BuildError> {
    let store = format!("local:{directory}");
    let digest: Digest = digest.parse().map_err(|_| BuildError::invalid(format!("invalid digest {digest:?}")))?;
    let bytes = document(engine, &store, &digest, context).await?;
    let manifest = Manifest::parse(&bytes, "").map_err(|error| BuildError::invalid(error.to_string()))?;
    let none = || BuildError::invalid(format!("{digest} is no cache"));
    let (config, layers) = cache_of(&manifest).ok_or_else(none)?;
    let config = document(engine, &store, &config.digest, context).await?;
    let from = |layers| From::Store(Stored { store: store.clone(), layers });
    results(&config, &layers, from).map(Imported::Results)
}

/// The results of a cache's configuration whose layers are described.
fn results(
    config: &[u8],
    layers: &[Descriptor],
    from: impl Fn(Vec<(Digest, Descriptor)>) -> From,
) -> Result<Vec<ImportedResult>, BuildError> {
    let described: BTreeMap<Digest, (Digest, &Descriptor)> = layers
        .iter()
        .filter_map(|blob| Some((blob.digest, (blob.annotations.get(UNCOMPRESSED)?.parse().ok()?, blob))))
        .collect();
    let found = read_config(config).map_err(|error| BuildError::invalid(format!("invalid cache: {error}")))?;
    let result = |found: skep_build::cache::ConfiguredResult| {
        let layers =
            found.blobs.iter().map(|blob| described.get(blob).map(|(diff_id, blob)| (*diff_id, (*blob).clone())));
        let layers: Vec<(Digest, Descriptor)> = layers.collect::<Option<_>>()?;
        let diff_ids = layers.iter().map(|(diff_id, _)| *diff_id).collect();
        let origin = Some(Arc::new(from(layers)) as _);
        Some(ImportedResult { key: found.key, diff_ids, created: found.created, origin })
    };
    Ok(found.into_iter().filter_map(result).collect())
}

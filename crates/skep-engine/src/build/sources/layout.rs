//! Content stores of the client: OCI layouts that are contexts, and caches in directories.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use skep_build::BuildError;
use skep_build::worker::{Context, ResolvedImage};
use skep_registry::{Descriptor, ImageManifest, Manifest, digest_of};
use skep_store::ChainId;
use skep_types::{Digest, ErrorKind, Platform, Reference};

use super::super::error::{engine as engine_error, failed, store as store_error};
use super::image::From;
use crate::engine::Inner;
use crate::images::{ImageError, Kept};

/// The largest manifest, index or configuration that is read, in bytes.
const MAX_DOCUMENT: u64 = 64 << 20;
/// Indexes in indexes.
const MAX_DEPTH: usize = 4;

/// Layers in a store of the client.
pub(in crate::build) struct Stored {
    pub(in crate::build) store: String,
    /// Diff ids with their blobs, the lowest first.
    pub(in crate::build) layers: Vec<(Digest, Descriptor)>,
}

/// Finds an image in a layout.
pub(in crate::build) async fn resolve(
    engine: &Arc<Inner>,
    store: &str,
    reference: &Reference,
    context: &Context,
) -> Result<ResolvedImage, BuildError> {
    let admitted = engine.images.admit_layout().await;
    admitted.map_err(|error: ImageError| engine_error(error.into()))?;
    let top = reference.digest();
    let top = top.ok_or_else(|| BuildError::invalid(format!("{reference}: an OCI layout is named with a digest")))?;
    let manifest = image_of(engine, store, top, context).await?;
    let config = document(engine, store, &manifest.config.digest, context).await?;
    let described = skep_build::image::ImageConfig::parse(&config)?;
    let (diff_ids, platform) = (described.rootfs.diff_ids.clone(), described.platform());
    if diff_ids.len() != manifest.layers.len() {
        let (blobs, wanted) = (manifest.layers.len(), diff_ids.len());
        let text = format!("{reference}: the manifest has {blobs} layers, the image's configuration {wanted}");
        return Err(BuildError::invalid(text));
    }
    let stack = ChainId::chain(&diff_ids).last().copied();
    let here = match stack {
        Some(stack) => engine.storage.store().layers().get(&stack).map_err(store_error)?.is_some(),
        None => true,
    };
    let stored = Stored { store: store.to_owned(), layers: diff_ids.into_iter().zip(manifest.layers).collect() };
    Ok(ResolvedImage {
        reference: reference.clone(),
        platform,
        digest: Some(top),
        config: config.into(),
        stack,
        here,
        origin: Some(Arc::new(From::Store(stored))),
    })
}

/// Follows indexes to the image for a platform.
async fn image_of(
    engine: &Arc<Inner>,
    store: &str,
    top: Digest,
    context: &Context,
) -> Result<ImageManifest, BuildError> {
    let mut next = top;
    for _ in 0..MAX_DEPTH {
        let bytes = document(engine, store, &next, context).await?;
        let manifest = Manifest::parse(&bytes, "").map_err(|error| BuildError::invalid(format!("{next}: {error}")))?;
        match manifest {
            Manifest::Image(image) => return Ok(image),
            Manifest::Artifact(_) => return Err(BuildError::invalid(format!("{next} is no image"))),
            Manifest::Index(index) => {
                let best = crate::images::choose_platform(&index, &context.platform);
                let missing = || no_platform(&next, &context.platform);
                next = best.ok_or_else(missing)?.digest;
            }
        }
    }
    Err(BuildError::invalid(format!("{top}: indexes are nested too deep")))
}

fn no_platform(digest: &Digest, platform: &Platform) -> BuildError {
    BuildError::new(ErrorKind::NotFound, format!("no match for platform in manifest {digest}: {platform}"))
}

/// A small blob, which has the digest that it is asked for by.
pub(super) async fn document(
    engine: &Arc<Inner>,
    store: &str,
    digest: &Digest,
    context: &Context,
) -> Result<Vec<u8>, BuildError> {
    let place = Place::new(engine)?;
    let path = place.blob(digest);
    context.services.blob(store, digest, &path).await?;
    let size = std::fs::metadata(&path).map_err(failed("look at a blob of the client"))?.len();
    if size > MAX_DOCUMENT {
        let text = format!("{digest}: {size} bytes are too many for a document");
        return Err(BuildError::new(ErrorKind::Exhausted, text));
    }
    let bytes = std::fs::read(&path).map_err(failed("read a blob of the client"))?;
    match digest_of(&bytes) == *digest {
        true => Ok(bytes),
        false => Err(BuildError::invalid(format!("{digest}: the client sent another blob"))),
    }
}

/// Brings layers here that are not.
pub(super) async fn fetch(engine: &Arc<Inner>, stored: &Stored, context: &Context) -> Result<Kept, BuildError> {
    let place = Place::new(engine)?;
    let diff_ids: Vec<Digest> = stored.layers.iter().map(|(diff_id, _)| *diff_id).collect();
    let mut layers = Vec::with_capacity(diff_ids.len());
    for ((diff_id, blob), chain) in stored.layers.iter().zip(ChainId::chain(&diff_ids)) {
        let here = engine.storage.store().layers().get(&chain).map_err(store_error)?.is_some();
        let file = if here { None } else { Some(fetched(&place, stored, blob, context).await?) };
        layers.push((*diff_id, blob.clone(), file));
    }
    let kept = engine.images.keep_layers(layers).await;
    kept.map_err(|error: ImageError| engine_error(error.into()))
}

async fn fetched(place: &Place, stored: &Stored, blob: &Descriptor, context: &Context) -> Result<File, BuildError> {
    let path = place.blob(&blob.digest);
    context.services.blob(&stored.store, &blob.digest, &path).await?;
    let file = File::open(&path).map_err(failed("open a blob of the client"))?;
    // Open it stays readable.
    std::fs::remove_file(&path).map_err(failed("remove a blob of the client"))?;
    Ok(file)
}

/// Where blobs of the client wait, as long as they are needed; what a crash leaves there goes at the next start.
struct Place(PathBuf);

impl Place {
    fn new(engine: &Arc<Inner>) -> Result<Self, BuildError> {
        let path = engine.config.data_root.join("staging").join(skep_fs::atomic::random_name());
        std::fs::create_dir(&path).map_err(failed("make a directory for blobs of the client"))?;
        Ok(Place(path))
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.0.join(digest.hex())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "blobs of a client stay until the next start");
        }
    }
}

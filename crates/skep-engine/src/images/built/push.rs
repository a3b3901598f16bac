//! What a build made, on its way to a registry: layers that are found or mounted there, or uploaded; then the documents that fit them.

use bytes::Bytes;
use skep_registry::{Access, Credentials, Descriptor, Repository};
use skep_store::ChainId;
use skep_types::{Digest, Reference, Selector};
use tokio::sync::mpsc;

use super::super::change::{Claim, run_blocking};
use super::super::push::document::Document;
use super::super::push::layers::Transfer;
use super::super::{ImageError, Images, Result, sources};
use super::{Coding, Documents, Made, Terms};
use crate::model::image::PushProgress;

/// What to push.
#[derive(Debug)]
pub(crate) struct PushBuilt<'a> {
    pub(crate) name: &'a Reference,
    pub(crate) images: &'a [Made],
    pub(crate) terms: &'a Terms,
    /// How layers are written that the registry doesn't have.
    pub(crate) coding: Option<Coding>,
    /// Whether layers have to be like that, also those that the registry has.
    pub(crate) force: bool,
    /// Without a tag.
    pub(crate) by_digest: bool,
    /// Whether the registry need not prove who it is.
    pub(crate) insecure: bool,
    /// The documents of the same images in another repository.
    pub(crate) before: Option<&'a Documents>,
}

impl Images {
    /// Pushes images that a build made; returns their documents, whose `top` the name leads to.
    pub(crate) async fn push_built(
        &self,
        push: &PushBuilt<'_>,
        credentials: Option<&Credentials>,
        progress: mpsc::Sender<PushProgress>,
    ) -> Result<Documents> {
        let inner = &self.inner;
        let repository = connect(self, push.name, push.insecure, credentials).await?;
        let only = push.coding.filter(|_| push.force).map(|coding| coding.compression);
        let transfer = Transfer::new(inner, &repository, only, push.coding, progress);
        let mut parts = Vec::with_capacity(push.images.len());
        for (number, image) in push.images.iter().enumerate() {
            let chains = ChainId::chain(&image.diff_ids);
            let _claim = Claim::on(inner, &chains);
            let known = push.before.and_then(|documents| documents.manifests.get(number)).and_then(layers_of);
            let stacks = image.diff_ids.iter().copied().zip(chains).collect();
            let layers = transfer.layers(stacks, known.as_deref()).await?;
            repository.put_small_blob(Bytes::from(image.config.clone())).await?;
            let found: Vec<_> = image.diff_ids.iter().copied().zip(layers.iter().cloned()).collect();
            let (db, reference) = (inner.store.db().clone(), push.name.clone());
            run_blocking(move || Ok(sources::remember(&db, &reference, &found)?)).await?;
            parts.push(image.part(layers));
        }
        let documents = Documents::write(&parts, push.terms)?;
        for attestations in &documents.attestations {
            for blob in &attestations.blobs {
                repository.put_small_blob(blob.clone()).await?;
            }
        }
        if documents.index().is_some() {
            let attestations = documents.attestations.iter().map(|one| &one.manifest);
            for document in documents.manifests.iter().chain(attestations) {
                put(&repository, Selector::Digest(document.descriptor.digest), document).await?;
            }
        }
        let selector = match push.by_digest {
            true => Selector::Digest(documents.top.descriptor.digest),
            false => Selector::Tag(push.name.tag().unwrap_or("latest").to_owned()),
        };
        put(&repository, selector, &documents.top).await?;
        Ok(documents)
    }
}

/// The cache of a build, on its way to a registry.
#[derive(Debug)]
pub(crate) struct PushCache<'a> {
    pub(crate) name: &'a Reference,
    /// Layers with the stacks that end with them.
    pub(crate) layers: Vec<(Digest, ChainId)>,
    pub(crate) coding: Option<Coding>,
    pub(crate) force: bool,
    pub(crate) insecure: bool,
}

/// What was pushed of a cache.
#[derive(Debug)]
pub(crate) struct PushedCache {
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) manifest: Descriptor,
}

impl Images {
    /// Pushes layers, then what `documents` says that they are: blobs, and a manifest with its media type.
    pub(crate) async fn push_cache(
        &self,
        push: PushCache<'_>,
        credentials: Option<&Credentials>,
        progress: mpsc::Sender<PushProgress>,
        documents: impl FnOnce(&[Descriptor]) -> Result<(Vec<Bytes>, String, Bytes), String>,
    ) -> Result<PushedCache> {
        let inner = &self.inner;
        let repository = connect(self, push.name, push.insecure, credentials).await?;
        let only = push.coding.filter(|_| push.force).map(|coding| coding.compression);
        let transfer = Transfer::new(inner, &repository, only, push.coding, progress);
        let chains: Vec<ChainId> = push.layers.iter().map(|(_, chain)| *chain).collect();
        let _claim = Claim::on(inner, &chains);
        let layers = transfer.layers(push.layers, None).await?;
        let (blobs, media_type, bytes) = documents(&layers).map_err(ImageError::Invalid)?;
        for blob in blobs {
            repository.put_small_blob(blob).await?;
        }
        let document = Document::new(media_type, bytes);
        put(&repository, Selector::Tag(push.name.tag().unwrap_or("latest").to_owned()), &document).await?;
        Ok(PushedCache { layers, manifest: document.descriptor })
    }
}

/// A way to write to the repository of a name.
async fn connect(
    images: &Images,
    name: &Reference,
    insecure: bool,
    credentials: Option<&Credentials>,
) -> Result<Repository> {
    let mut config = images.inner.registry.clone();
    if insecure {
        config.insecure.push(name.registry().to_owned());
    }
    Ok(Repository::connect_for(&config, name, credentials, Access::Push).await?)
}

async fn put(repository: &Repository, selector: Selector, document: &Document) -> Result<()> {
    let media_type = document.descriptor.media_type.clone();
    repository.put_manifest(&selector, &media_type, document.bytes.clone()).await?;
    Ok(())
}

fn layers_of(document: &Document) -> Option<Vec<Descriptor>> {
    match skep_registry::Manifest::parse(&document.bytes, &document.descriptor.media_type).ok()? {
        skep_registry::Manifest::Image(image) => Some(image.layers),
        skep_registry::Manifest::Index(_) | skep_registry::Manifest::Artifact(_) => None,
    }
}

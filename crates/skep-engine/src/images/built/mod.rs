//! What builds made: images of the catalog, archives, images in registries. The layers are in the store, and whoever calls keeps them
//! there.
//!
//! | module | what it owns |
//! |---|---|
//! | [`documents`] | manifests, attestations, the index; pure |
//! | [`annotations`] | what is put on them |
//! | [`coding`] | how layers are compressed, and what comes of it |
//! | [`push`] | the way to a registry |

mod annotations;
mod coding;
mod documents;
mod push;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use skep_registry::{Descriptor, digest_of};
use skep_store::{ChainId, StagedBlob, Store};
use skep_types::{Digest, Platform, Reference};
use tokio::io::AsyncRead;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::StreamReader;

use super::archive::layout;
use super::artifact::{Artifact, NewArtifact, NewAttached, Way};
use super::bridge::StreamWriter;
use super::build::NewImage;
use super::change::{Claim, run_blocking};
use super::config::ConfigFile;
use super::target::{Member, Target};
use super::{ImageError, Images, Inner, Result};
use crate::model::image::ImageId;

pub(crate) use super::archive::layout::{Content, Layout, legacy, lines};
pub(crate) use super::push::document::layer_type;
pub(crate) use annotations::{Annotations, Scope};
pub(in crate::images) use coding::Coded;
pub(crate) use coding::Coding;
pub(crate) use documents::{Documents, Part, Said, Terms, statement};
pub(crate) use push::{PushBuilt, PushCache};

/// An image that a build made.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) config: Vec<u8>,
    pub(crate) platform: Platform,
    /// Its layers, the lowest first.
    pub(crate) diff_ids: Vec<Digest>,
    /// What is said about it.
    pub(crate) said: Vec<Said>,
}

impl Made {
    /// The image with the blobs of its layers.
    pub(crate) fn part(&self, layers: Vec<Descriptor>) -> Part {
        let (config, platform, said) = (self.config.clone(), self.platform.clone(), self.said.clone());
        Part { config, platform, layers, said }
    }
}

/// How images are stored.
#[derive(Debug, Default)]
pub(crate) struct Storing<'a> {
    pub(crate) names: &'a [Reference],
    /// Images that the first was made from here, the oldest first, each with its own parent; none but for the classic builder.
    pub(crate) parents: Vec<Vec<u8>>,
    /// Their manifests, if they have some.
    pub(crate) documents: Option<&'a Documents>,
    /// Also as `NAME@DIGEST`.
    pub(crate) canonical: bool,
}

impl Images {
    /// Stores images, one for each platform, under all names.
    pub(crate) async fn store_built(&self, images: &[Made], storing: Storing<'_>) -> Result<Vec<ImageId>> {
        let Storing { names, parents, documents, canonical } = storing;
        let inner = Arc::clone(&self.inner);
        let found: Vec<Found> = (0..images.len()).map(|number| Found::of(documents, number)).collect();
        let configs: Vec<Vec<u8>> = images.iter().map(|image| image.config.clone()).collect();
        let (claim, images, made_from) = run_blocking(move || {
            // A stored image has durable layers.
            inner.store.layers().flush()?;
            let claim = Arc::new(Claim::on(&inner, &[]));
            let made = |config, found| new_image(&inner, &claim, config, found);
            let parents = parents.into_iter().map(|config| made(config, Found::default()));
            let parents = parents.collect::<Result<Vec<_>>>()?;
            let images = configs.into_iter().zip(found).map(|(config, found)| made(config, found));
            let images = images.collect::<Result<Vec<_>>>()?;
            Ok((claim, images, parents))
        })
        .await?;
        let mut writer = self.inner.write().await;
        let mut before: Option<ImageId> = None;
        for image in made_from {
            let id = image.add_to(&mut writer);
            if let Some(before) = before.replace(id) {
                writer.draft.set_parent(&id, &before);
            }
        }
        let ids: Vec<ImageId> = images.into_iter().map(|image| image.add_to(&mut writer)).collect();
        if let (Some(before), Some(first)) = (before, ids.first()) {
            writer.draft.set_parent(first, &before);
        }
        let manifest = |number: usize| documents.and_then(|all| all.manifests.get(number));
        let manifest = |number| manifest(number).map(|document| document.descriptor.clone());
        let members = ids.iter().enumerate().map(|(number, id)| Member { id: *id, manifest: manifest(number) });
        let target = Target {
            descriptor: documents.map(|documents| documents.top.descriptor.clone()),
            images: members.collect(),
        };
        for name in names.iter().filter(|_| !target.images.is_empty()) {
            if name.digest().is_none() {
                writer.draft.put_reference(name, target.clone(), Some(chrono::Utc::now()));
            }
            if let Some(digest) = target.digest().filter(|_| canonical || name.digest().is_some()) {
                writer.draft.put_reference(&name.with_digest(digest), target.clone(), None);
            }
        }
        writer.commit_claimed(claim).await?;
        for id in &ids {
            self.inner.uses.touch(*id);
        }
        for (name, id) in names.iter().zip(ids.first().into_iter().cycle()) {
            self.inner.tell("tag", id, id.to_string(), name.or_latest().familiar());
        }
        Ok(ids)
    }

    /// A layout as one archive.
    pub(crate) fn write_layout(&self, layout: Layout) -> ReceiverStream<Result<Bytes>> {
        let layers = self.inner.store.layers().clone();
        stream(move |writer| layout::write(&layout, &layers, writer))
    }

    /// One blob of a layout.
    pub(crate) fn read_content(&self, digest: Digest, content: Content) -> Box<dyn AsyncRead + Send + Unpin> {
        let layers = self.inner.store.layers().clone();
        let pieces = stream(move |writer| content.write(&digest, &layers, writer));
        let pieces = tokio_stream::StreamExt::map(pieces, |piece| piece.map_err(std::io::Error::other));
        Box::new(StreamReader::new(pieces))
    }

    /// Takes away layers that nothing needs any more.
    pub(crate) async fn collect_unneeded(&self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        run_blocking(move || inner.collect_layers().map(drop)).await
    }

    /// Whether an image with this id is here.
    pub(crate) fn has(&self, id: &ImageId) -> bool {
        self.inner.catalog().image(id).is_some()
    }

    /// Whether an image has the layers up to `chain`.
    pub(crate) fn layers_of_images(&self) -> BTreeSet<ChainId> {
        let catalog = self.inner.catalog();
        catalog.images().flat_map(|(_, record)| record.chain_ids.iter().copied()).collect()
    }
}

/// Bytes that a thread writes.
fn stream(write: impl FnOnce(&mut StreamWriter) -> Result<()> + Send + 'static) -> ReceiverStream<Result<Bytes>> {
    let (writer, receiver) = StreamWriter::new();
    tokio::task::spawn_blocking(move || {
        let mut writer = writer;
        let result = write(&mut writer);
        writer.end(result);
    });
    ReceiverStream::new(receiver)
}

/// What is stored of an image besides its configuration.
#[derive(Default)]
struct Found {
    manifests: Vec<(Digest, Vec<u8>)>,
    /// Subject, manifest, blobs.
    attached: Vec<(Digest, Bytes, Vec<Bytes>)>,
}

impl Found {
    fn of(documents: Option<&Documents>, number: usize) -> Self {
        let Some(documents) = documents else { return Found::default() };
        let Some(own) = documents.manifests.get(number) else { return Found::default() };
        let all = documents.index().into_iter().chain([own]);
        let manifests = all.map(|document| (document.descriptor.digest, document.bytes.to_vec()));
        let about = documents.attestations.iter().filter(|one| one.subject == own.descriptor.digest);
        let attached = about.map(|one| (one.subject, one.manifest.bytes.clone(), one.blobs.clone()));
        Found { manifests: manifests.collect(), attached: attached.collect() }
    }
}

fn new_image(inner: &Inner, claim: &Claim, config: Vec<u8>, found: Found) -> Result<NewImage> {
    let parsed = ConfigFile::parse(&config)?;
    let chains = ChainId::chain(&parsed.rootfs.diff_ids);
    claim.add(&chains);
    let size = |chain: &ChainId| {
        let info = inner.store.layers().get(chain)?;
        Ok(info.ok_or(skep_store::StoreError::NoLayer(*chain))?.size)
    };
    let layer_sizes = chains.iter().map(size).collect::<Result<_>>()?;
    let attach = |(subject, raw, blobs): (Digest, Bytes, Vec<Bytes>)| {
        let artifact = Artifact::read(&raw, skep_registry::media_type::OCI_MANIFEST)?;
        let staged = blobs.iter().map(|bytes| stage(&inner.store, bytes)).collect::<Result<_>>()?;
        Ok(NewAttached { subject, by: Way::Index, new: NewArtifact { artifact, raw: raw.to_vec(), staged } })
    };
    let attached = found.attached.into_iter().map(attach).collect::<Result<_>>()?;
    Ok(NewImage { config, parsed, layer_sizes, manifests: found.manifests, attached })
}

fn stage(store: &Store, bytes: &[u8]) -> Result<StagedBlob> {
    let mut ingest = store.blobs().ingest()?;
    ingest.write_all(bytes).map_err(ImageError::from)?;
    Ok(ingest.finish(Some(&digest_of(bytes)), Some(bytes.len() as u64))?)
}

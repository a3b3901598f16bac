//! Copies of images between engines, without a registry: what one has, what the other lacks, layer by layer.
//!
//! ```text
//! one engine                      client                         the other engine
//!   outline(name) ─────────────────►                                  
//!                                    lacking(stacks) ──────────────►  holds what it has
//!   layer_archive(stack) ──────────► receive_layer(diff id, parent) ► unpacks, checks, holds        (each lacking layer, base first)
//!                                    receive_image(outline) ───────►  one commit
//! ```
//! Layers that arrived stay for a while if the rest doesn't come: the next try asks again and goes on from there. They are held by leases,
//! so the end of the receiving daemon is their end, too.

mod artifacts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use parking_lot::Mutex;
use skep_fs::decode::Compression;
use skep_policy::Source;
use skep_registry::{Descriptor, Manifest};
use skep_store::{ChainId, LayerLease, StoreError, UnpackOptions};
use skep_types::{Digest, Reference};
use tokio::io::AsyncRead;
use tokio_stream::wrappers::ReceiverStream;

use super::bridge::{StreamWriter, feed};
use super::build::NewImage;
use super::catalog::is_id_prefix;
use super::change::{Claim, run_blocking};
use super::config::ConfigFile;
use super::target::{Member, Target, stored_form};
use super::{ImageError, Images, Inner, Result, digest_of};
use crate::model::copy::{Outline, OutlinedImage, OutlinedLayer};
use crate::model::image::ImageId;

/// How long layers stay that no image has yet.
const GRACE: Duration = Duration::from_secs(600);
/// The most documents of an outline.
const MAX_DOCUMENTS: usize = 1000;

/// Layers that arrived, or were asked about, and wait for their image.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<Vec<(Instant, LayerLease)>>);

impl Images {
    /// All of an image but its layers.
    pub async fn outline(&self, name: &str) -> Result<Outline> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        run_blocking(move || outline(&inner, &name)).await
    }

    /// The stacks that are not here. Those that are stay for a while.
    pub async fn lacking(&self, stacks: &[Digest]) -> Result<Vec<Digest>> {
        let inner = Arc::clone(&self.inner);
        let stacks: Vec<(Digest, ChainId)> =
            stacks.iter().map(|digest| Ok((*digest, stack(digest)?))).collect::<Result<_>>()?;
        run_blocking(move || {
            let lease = inner.store.layers().lease();
            stacks.iter().for_each(|(_, chain)| lease.hold(chain));
            inner.arrivals.keep(lease);
            let mut lacking = Vec::new();
            for (digest, chain) in stacks {
                if inner.store.layers().get(&chain)?.is_none() {
                    lacking.push(digest);
                }
            }
            Ok(lacking)
        })
        .await
    }

    /// A layer's archive, compressed with zstd.
    pub async fn layer_archive(
        &self,
        chain: &Digest,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + Unpin + use<>> {
        let (layers, chain) = (self.inner.store.layers().clone(), stack(chain)?);
        let lease = layers.lease();
        lease.hold(&chain);
        let tar = run_blocking(move || Ok(layers.tar_stream(&chain)?)).await?;
        let (mut writer, receiver) = StreamWriter::new();
        tokio::task::spawn_blocking(move || {
            let _lease = lease;
            let result = skep_fs::encode::encode(tar, &mut writer, Compression::Zstd);
            writer.end(result.map_err(ImageError::from));
        });
        Ok(ReceiverStream::new(receiver))
    }

    /// Takes in a layer on top of `parent`, which is here. Returns its chain id.
    pub async fn receive_layer(
        &self,
        diff_id: Digest,
        parent: Option<Digest>,
        archive: impl AsyncRead + Send + Unpin,
    ) -> Result<Digest> {
        let parent = parent.as_ref().map(stack).transpose()?;
        let chain = ChainId::of(parent.as_ref(), &diff_id);
        let lease = self.inner.store.layers().lease();
        lease.hold(&chain);
        let (feed, reader) = feed();
        let inner = Arc::clone(&self.inner);
        let unpacking = run_blocking(move || {
            inner.guards.admit_archive(Source::OciArchive)?;
            let layers = inner.store.layers();
            let options =
                UnpackOptions { diff_id: Some(diff_id), limits: inner.guards.limits, ..UnpackOptions::default() };
            if layers.get(&chain)?.is_none() {
                let staged = layers.stage()?.unpack(reader, &options)?;
                layers.commit(parent.as_ref(), vec![staged])?;
            }
            inner.arrivals.keep(lease);
            Ok(*chain.digest())
        });
        let (copied, unpacked) = tokio::join!(feed.copy(archive), unpacking);
        copied?;
        unpacked
    }

    /// Takes in the images of an outline whose layers are here. They become visible together.
    pub async fn receive_image(&self, outline: Outline) -> Result<Vec<ImageId>> {
        let ids = receive(&self.inner, outline).await?;
        for id in &ids {
            self.inner.tell("load", id, id.to_string(), id.to_string());
        }
        Ok(ids)
    }

    /// Lets go of layers whose image has not come in time. Blocks.
    pub(crate) fn forget_arrivals(&self) -> Result<()> {
        if self.inner.arrivals.expire() {
            self.inner.collect_layers()?;
        }
        Ok(())
    }
}

impl Arrivals {
    fn keep(&self, lease: LayerLease) {
        self.0.lock().push((Instant::now(), lease));
    }

    /// Lets go of what is too old; true if there was something.
    fn expire(&self) -> bool {
        let mut all = self.0.lock();
        let before = all.len();
        all.retain(|(since, _)| since.elapsed() < GRACE);
        all.len() != before
    }

    /// Lets go of everything, when all that was waited for has come.
    fn done(&self) {
        self.0.lock().clear();
    }
}

fn stack(digest: &Digest) -> Result<ChainId> {
    digest.to_string().parse().map_err(|e: skep_types::DigestError| ImageError::Invalid(e.to_string()))
}

fn outline(inner: &Inner, name: &str) -> Result<Outline> {
    let catalog = inner.catalog();
    let id = catalog.resolve(name)?;
    let target = catalog.target_named(name)?;
    let named = name.parse::<Reference>().ok().filter(|_| !is_id_prefix(&id, name)).map(|name| stored_form(&name));
    let mut documents: BTreeSet<Digest> = target.blobs().collect();
    let mut images = Vec::new();
    let mut artifacts = artifacts::Outgoing::default();
    for Member { id, manifest } in &target.images {
        let record = catalog.image(id).ok_or_else(|| ImageError::NotFound(id.to_string()))?;
        documents.extend(record.manifests.iter().chain([id]));
        artifacts.add(id, record)?;
        if record.artifact.is_some() {
            continue;
        }
        let mut layers = Vec::new();
        for (diff_id, chain) in record.diff_ids.iter().zip(&record.chain_ids) {
            let size = inner.store.layers().get(chain)?.ok_or(StoreError::NoLayer(*chain))?.tar_size;
            layers.push(OutlinedLayer { diff_id: *diff_id, chain_id: *chain.digest(), size });
        }
        images.push(OutlinedImage { id: *id, descriptor: manifest.clone(), layers });
    }
    let read = |digest: Digest| Ok(Bytes::from(inner.store.blobs().read(&digest)?));
    documents.extend(artifacts.documents);
    let documents = documents.into_iter().map(read).collect::<Result<_>>()?;
    Ok(Outline { name: named, descriptor: target.descriptor, images, documents, artifacts: artifacts.list })
}

async fn receive(inner: &Arc<Inner>, outline: Outline) -> Result<Vec<ImageId>> {
    let empty = outline.images.is_empty() && outline.artifacts.is_empty();
    if empty || outline.documents.len() > MAX_DOCUMENTS {
        return Err(ImageError::Invalid("an outline has at least one image and not too many documents".to_owned()));
    }
    let documents: BTreeMap<Digest, Bytes> = outline.documents.iter().map(|d| (digest_of(d), d.clone())).collect();
    check_descriptor(&documents, outline.descriptor.as_ref())?;
    let claim = Arc::new(Claim::on(inner, &[]));
    let mut made = Vec::new();
    for image in &outline.images {
        check_descriptor(&documents, image.descriptor.as_ref())?;
        made.push(new_image(inner, &claim, &documents, image).await?);
    }
    let mut incoming = artifacts::receive(inner, &documents, &outline.artifacts).await?;
    let mut writer = inner.write().await;
    let mut members = Vec::new();
    for (image, outlined) in made.into_iter().zip(&outline.images) {
        let attached = incoming.attached.remove(&outlined.id).unwrap_or_default();
        let id = NewImage { attached, ..image }.add_to(&mut writer);
        members.push(Member { id, manifest: outlined.descriptor.clone() });
    }
    for artifact in incoming.alone {
        let manifest = Some(artifact.artifact.manifest.clone());
        let attached = incoming.attached.remove(&artifact.artifact.manifest.digest).unwrap_or_default();
        members.push(Member { id: artifact.add_to(Vec::new(), attached, &mut writer), manifest });
    }
    let ids = members.iter().map(|member| member.id).collect();
    if let Some(top) = &outline.descriptor {
        writer.blobs.extend(documents.get(&top.digest).map(|bytes| (top.digest, bytes.to_vec())));
    }
    if let Some(name) = &outline.name {
        let target = Target { descriptor: outline.descriptor, images: members };
        writer.draft.put_reference(name, target, None);
    }
    writer.commit_claimed(claim).await?;
    inner.arrivals.done();
    Ok(ids)
}

/// An image whose layers are here, with the documents that belong to it.
async fn new_image(
    inner: &Arc<Inner>,
    claim: &Arc<Claim>,
    documents: &BTreeMap<Digest, Bytes>,
    image: &OutlinedImage,
) -> Result<NewImage> {
    let missing = || ImageError::Invalid(format!("the configuration of {} is missing", image.id));
    let config = documents.get(&image.id).ok_or_else(missing)?.to_vec();
    let parsed = ConfigFile::parse(&config)?;
    let chains = ChainId::chain(&parsed.rootfs.diff_ids);
    claim.add(&chains);
    let belongs = |bytes: &Bytes| match Manifest::parse(bytes, "") {
        Ok(Manifest::Image(manifest)) => manifest.config.digest == image.id,
        Ok(Manifest::Index(_) | Manifest::Artifact(_)) | Err(_) => false,
    };
    let manifests = documents.iter().filter(|(_, bytes)| belongs(bytes));
    let manifests = manifests.map(|(digest, bytes)| (*digest, bytes.to_vec())).collect();
    let inner = Arc::clone(inner);
    let layer_sizes = run_blocking(move || {
        inner.guards.admit_archive(Source::OciArchive)?;
        let size = |chain: &ChainId| {
            inner.store.layers().get(chain)?.map(|info| info.size).ok_or_else(|| StoreError::NoLayer(*chain).into())
        };
        chains.iter().map(size).collect::<Result<Vec<u64>>>()
    })
    .await?;
    Ok(NewImage { config, parsed, layer_sizes, manifests, attached: Vec::new() })
}

fn check_descriptor(documents: &BTreeMap<Digest, Bytes>, descriptor: Option<&Descriptor>) -> Result<()> {
    let Some(descriptor) = descriptor else { return Ok(()) };
    let bytes = documents
        .get(&descriptor.digest)
        .ok_or_else(|| ImageError::Invalid(format!("the manifest {} is missing", descriptor.digest)))?;
    if bytes.len() as u64 != descriptor.size {
        return Err(ImageError::Invalid(format!("the manifest {} has another size", descriptor.digest)));
    }
    Manifest::parse(bytes, &descriptor.media_type).map_err(|e| ImageError::Invalid(e.to_string()))?;
    Ok(())
}

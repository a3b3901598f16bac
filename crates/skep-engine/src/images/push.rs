//! Pushing: from a reference to the same image in its registry.
//!
//! ```text
//! each layer, up to `max_concurrent_uploads` at once:
//!   known blobs ─► HEAD: there already ───────────────────────────────► Layer already exists
//!               ─► mount from a repository that had it ───────────────► Mounted from …
//!   archive made again from the store ─► compressed ─► uploaded ──────► Pushed
//! configuration ─► manifest: the original's bytes if all blobs are the original ones, else one made of what is there
//! several platforms: a manifest each, then the index
//! ```
//! An image that was pulled keeps its digest when the registry has its blobs or can take them from where they were; a layer that
//! is compressed anew comes out as the same blob each time, so a second push sends nothing.
//!
//! [`layers`] brings layers there, [`document`] makes manifests and indexes, [`artifacts`] brings what is no image.

mod artifacts;
pub(crate) mod document;
pub(in crate::images) mod layers;

use std::sync::Arc;

use bytes::Bytes;
use skep_registry::{Access, Credentials, Descriptor, ImageManifest, Manifest, Repository, media_type};
use skep_store::ChainId;
use skep_types::{Digest, Platform, Reference, Selector};
use tokio::sync::mpsc;

use super::artifact::Attached;
use super::built::Coding;
use super::catalog::ImageRecord;
use super::change::{Claim, run_blocking};
use super::target::{Member, Target};
use super::{ImageError, Inner, Result, platform, sources};
use crate::model::image::{ImageId, LayerCompression, PushImage, PushProgress};
use document::Document;
use layers::Transfer;

/// Where progress goes. Nobody has to listen.
type Progress = mpsc::Sender<PushProgress>;

/// What every part of one push needs.
struct Push<'a> {
    inner: &'a Arc<Inner>,
    repository: Repository,
    transfer: Transfer,
    compression: Option<LayerCompression>,
    progress: Progress,
}

/// What was pushed under a tag.
struct Pushed {
    top: Document,
    members: Vec<Member>,
    /// Manifests below an index.
    documents: Vec<Document>,
}

/// Pushes one tag, or all tags of a repository. Returns the tags with the images that they mean.
pub(super) async fn push(
    inner: &Arc<Inner>,
    reference: &Reference,
    options: &PushImage,
    credentials: Option<&Credentials>,
    progress: Progress,
) -> Result<Vec<(Reference, ImageId)>> {
    tell(&progress, PushProgress::Started { repository: reference.canonical_name() }).await;
    let wanted = select(inner, reference)?;
    let repository = Repository::connect_for(&inner.registry, reference, credentials, Access::Push).await?;
    let coding = options.compression.map(|compression| Coding { compression, level: None });
    let transfer = Transfer::new(inner, &repository, options.compression, coding, progress.clone());
    let push = Push { inner, repository, transfer, compression: options.compression, progress };
    let mut done = Vec::new();
    for (tag, target) in wanted {
        if let Some(id) = push.tag(&tag, &target, options.platform.as_ref()).await? {
            done.push((tag, id));
        }
    }
    Ok(done)
}

/// The tags to push and what they lead to.
fn select(inner: &Inner, reference: &Reference) -> Result<Vec<(Reference, Arc<Target>)>> {
    let catalog = inner.catalog();
    let all = catalog.tags_of_repository(reference);
    if all.is_empty() {
        let name = reference.familiar_name();
        return Err(ImageError::Push(format!("An image does not exist locally with the tag: {name}")));
    }
    if reference.digest().is_some() {
        return Err(ImageError::Push("cannot push a digest reference".to_owned()));
    }
    if reference.tag().is_none() {
        return Ok(all);
    }
    match catalog.target(reference) {
        Some(target) => Ok(vec![(reference.clone(), Arc::clone(target))]),
        None => Err(ImageError::Push(format!("tag does not exist: {}", reference.familiar()))),
    }
}

impl Push<'_> {
    /// Pushes what a tag leads to, and remembers under which digest it is there.
    async fn tag(&self, tag: &Reference, target: &Target, wished: Option<&Platform>) -> Result<Option<ImageId>> {
        let selector = Selector::Tag(tag.tag().unwrap_or("latest").to_owned());
        let pushed = match (wished, self.index_of(target).await?) {
            (None, Some(index)) => self.index(target, index, &selector).await?,
            _ => self.single(self.member(tag, target, wished)?, target, &selector).await?,
        };
        let (digest, size) = (pushed.top.descriptor.digest, pushed.top.descriptor.size);
        let images: Vec<ImageId> = pushed.members.iter().map(|member| member.id).collect();
        let there = pushed.documents.iter().chain([&pushed.top]).map(|document| document.descriptor.digest);
        self.attached(&images, there.collect::<Vec<_>>()).await?;
        let first = pushed.members.first().map(|member| member.id);
        let tag_name = tag.tag().unwrap_or("latest").to_owned();
        self.record(tag, target, pushed).await?;
        tell(&self.progress, PushProgress::Pushed { tag: tag_name.clone(), digest, size }).await;
        tell(&self.progress, PushProgress::Result { tag: tag_name, digest, size }).await;
        Ok(first)
    }

    /// The image for a platform, or the one that the name means.
    fn member<'t>(&self, tag: &Reference, target: &'t Target, wished: Option<&Platform>) -> Result<&'t Member> {
        let catalog = self.inner.catalog();
        let Some(wished) = wished else {
            return target.images.first().ok_or_else(|| ImageError::NotFound(tag.familiar()));
        };
        let rated = target
            .images
            .iter()
            .filter_map(|member| platform::rate(wished, &catalog.platform_of(member)?).map(|rate| (rate, member)));
        let best = rated.max_by_key(|(rate, _)| *rate).map(|(_, member)| member);
        best.ok_or_else(|| ImageError::other_platform(&tag.familiar(), wished))
    }

    /// The index that the tag stands for, if it stands for one.
    async fn index_of(&self, target: &Target) -> Result<Option<Document>> {
        let Some(descriptor) = target.descriptor.clone().filter(|d| is_index(&d.media_type)) else { return Ok(None) };
        Ok(Some(Document { bytes: self.blob(descriptor.digest).await?, descriptor }))
    }

    async fn blob(&self, digest: Digest) -> Result<Bytes> {
        let blobs = self.inner.store.blobs().clone();
        run_blocking(move || Ok(Bytes::from(blobs.read(&digest)?))).await
    }

    /// Pushes the images of an index and the index, if all images that it names are here; else the one for this machine.
    async fn index(&self, target: &Target, index: Document, selector: &Selector) -> Result<Pushed> {
        let Manifest::Index(listed) = parse(&index)? else {
            return Err(ImageError::Invalid(format!("{} is no index", index.descriptor.digest)));
        };
        let member_of = |entry: &Descriptor| {
            target.images.iter().find(|m| m.manifest.as_ref().is_some_and(|own| own.digest == entry.digest))
        };
        let is_image = |entry: &&Descriptor| entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown");
        if !listed.manifests.iter().filter(is_image).all(|entry| member_of(entry).is_some()) {
            let first =
                target.images.first().ok_or_else(|| ImageError::Invalid("an index without images".to_owned()))?;
            let pushed = self.single(first, target, selector).await?;
            let selected = Box::new(pushed.top.descriptor.clone());
            let index = Box::new(index.descriptor);
            tell(&self.progress, PushProgress::OnlyOne { index, selected }).await;
            return Ok(pushed);
        }
        let mut documents = Vec::new();
        let mut replaced = vec![None; listed.manifests.len()];
        let mut members = Vec::new();
        for (entry, replaced) in listed.manifests.iter().zip(&mut replaced) {
            let Some(member) = member_of(entry) else { continue };
            let document = self.image(member).await?;
            let named = Selector::Digest(document.descriptor.digest);
            self.put(&named, &document).await?;
            let descriptor = Descriptor { platform: entry.platform.clone(), ..document.descriptor.clone() };
            *replaced = Some(descriptor.clone());
            members.push(Member { id: member.id, manifest: Some(descriptor) });
            documents.push(document);
        }
        for (entry, replaced) in listed.manifests.iter().zip(&mut replaced) {
            // Not an image (an attestation); it goes with the image that it is about, or stays if the repository has it.
            if member_of(entry).is_none() && self.listed_artifact(target, entry, &documents).await? {
                *replaced = Some(entry.clone());
            }
        }
        let top = document::index_with(index, &listed.manifests, &replaced)?;
        self.put(selector, &top).await?;
        Ok(Pushed { top, members, documents })
    }

    /// Brings what an index lists beside images there, if it is here or there.
    async fn listed_artifact(&self, target: &Target, entry: &Descriptor, pushed: &[Document]) -> Result<bool> {
        let is_there = |digest: &Digest| pushed.iter().any(|document| document.descriptor.digest == *digest);
        let artifact = {
            let catalog = self.inner.catalog();
            let records = target.images.iter().filter_map(|member| catalog.any_image(&member.id));
            let mut all = records.flat_map(|record| &record.attached);
            let is =
                |attached: &&Attached| attached.artifact.manifest.digest == entry.digest && is_there(&attached.subject);
            all.find(is).map(|attached| attached.artifact.clone())
        };
        let Some(artifact) = artifact else { return Ok(self.repository.has_manifest(&entry.digest).await?) };
        let document = self.artifact(&artifact).await?;
        self.put(&Selector::Digest(entry.digest), &document).await?;
        Ok(true)
    }

    /// Pushes one image under the tag.
    async fn single(&self, member: &Member, target: &Target, selector: &Selector) -> Result<Pushed> {
        let manifest = member.manifest.clone().or_else(|| target.descriptor.clone());
        let member = Member { id: member.id, manifest: manifest.filter(|d| !is_index(&d.media_type)) };
        let top = self.image(&member).await?;
        self.put(selector, &top).await?;
        let members = vec![Member { id: member.id, manifest: Some(top.descriptor.clone()) }];
        Ok(Pushed { top, members, documents: Vec::new() })
    }

    /// Brings an image's layers and configuration there; returns the manifest that fits them.
    async fn image(&self, member: &Member) -> Result<Document> {
        let record = self.inner.catalog().any_image(&member.id).cloned();
        let record = record.ok_or_else(|| ImageError::NotFound(member.id.to_string()))?;
        if let Some(artifact) = &record.artifact {
            return self.artifact(artifact).await;
        }
        // The layers stay while they are read, whatever becomes of the image.
        let _claim = Claim::on(self.inner, &record.chain_ids);
        let original = self.original(member, &record).await?;
        let config = self.blob(member.id).await?;
        let wanted = original.as_ref().map(|(_, manifest)| manifest.layers.as_slice());
        let layers = self.transfer.layers(stacks(&record), wanted).await?;
        self.repository.put_small_blob(config.clone()).await?;
        let found: Vec<_> = record.diff_ids.iter().copied().zip(layers.iter().cloned()).collect();
        let (db, reference) = (self.inner.store.db().clone(), self.repository.reference().clone());
        run_blocking(move || Ok(sources::remember(&db, &reference, &found)?)).await?;
        match original {
            Some((document, manifest)) if document::same_layers(&manifest, &layers) => Ok(document),
            original => {
                let kind = original.map(|(document, _)| document.descriptor.media_type);
                document::manifest(kind.as_deref(), self.compression, member.id, config.len() as u64, &layers)
            }
        }
    }

    /// The manifest that the image came with.
    async fn original(&self, member: &Member, record: &ImageRecord) -> Result<Option<(Document, ImageManifest)>> {
        // First what something is said about: pushed unchanged, that can go along.
        let said_of = record.attached.iter().map(|attached| attached.subject);
        let said_of = said_of.filter(|subject| record.manifests.contains(subject)).collect::<Vec<_>>();
        let candidates = said_of.into_iter().chain(member.manifest.iter().map(|descriptor| descriptor.digest));
        for digest in candidates.chain(record.manifests.iter().copied()) {
            let bytes = self.blob(digest).await?;
            let Ok(Manifest::Image(manifest)) = Manifest::parse(&bytes, "") else { continue };
            if manifest.config.digest == member.id && manifest.layers.len() == record.diff_ids.len() {
                let media_type = document::type_of(&bytes, member.manifest.as_ref());
                return Ok(Some((Document::new(media_type, bytes), manifest)));
            }
        }
        Ok(None)
    }

    async fn put(&self, selector: &Selector, document: &Document) -> Result<()> {
        let Document { descriptor, bytes } = document;
        self.repository.put_manifest(selector, &descriptor.media_type, bytes.clone()).await?;
        Ok(())
    }

    /// Remembers the digest, and the manifest for a tag that had none.
    async fn record(&self, tag: &Reference, target: &Target, pushed: Pushed) -> Result<()> {
        let Pushed { top, members, documents } = pushed;
        let digest = top.descriptor.digest;
        let new = Target { descriptor: Some(top.descriptor.clone()), images: members };
        let mut writer = self.inner.write().await;
        // Images may have gone meanwhile; what is there no more has no digest.
        if !new.images.iter().all(|member| writer.draft.catalog.image(&member.id).is_some()) {
            return Ok(());
        }
        writer.blobs.extend(documents.into_iter().chain([top]).map(|d| (d.descriptor.digest, d.bytes.to_vec())));
        let same = writer.draft.catalog.target(tag).is_some_and(|known| **known == *target);
        if target.descriptor.is_none() && same {
            writer.draft.put_reference(tag, new.clone(), None);
        }
        writer.draft.put_reference(&tag.with_digest(digest), new, None);
        writer.commit().await.map(drop)
    }
}

fn parse(document: &Document) -> Result<Manifest> {
    Ok(Manifest::parse(&document.bytes, &document.descriptor.media_type).map_err(skep_registry::RegistryError::from)?)
}

fn is_index(kind: &str) -> bool {
    matches!(kind, media_type::OCI_INDEX | media_type::DOCKER_LIST)
}

async fn tell(progress: &Progress, message: PushProgress) {
    // Nobody listening is no reason to stop.
    let _ = progress.send(message).await;
}

/// Layers of an image with the stacks that end with them.
fn stacks(record: &ImageRecord) -> Vec<(Digest, ChainId)> {
    record.diff_ids.iter().copied().zip(record.chain_ids.iter().copied()).collect()
}

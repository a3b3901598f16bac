//! Loading images from an archive.
//!
//! The archive goes, decompressed, into a file without a name; then its images are read in order. All images become visible in one
//! commit at the end: an archive with one bad image changes nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags};
use skep_registry::Descriptor;
use skep_store::{ChainId, StagedBlob, UnpackOptions};
use skep_types::{Platform, Reference};
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

use super::archive::{self, ArchivedArtifact, ArchivedEntry, ArchivedImage, Slice};
use super::artifact::{NewArtifact, NewAttached};
use super::bridge::{FeedReader, feed};
use super::build::NewImage;
use super::change::{Claim, run_blocking};
use super::draft::Draft;
use super::target::Target;
use super::{Inner, Result};
use crate::model::image::{ImageId, LoadProgress, Loaded};

/// Bytes between two reports.
const TICK: u64 = 512 * 1024;

type Progress = mpsc::Sender<LoadProgress>;

pub(super) async fn load(
    inner: &Arc<Inner>,
    source: impl AsyncRead + Send + Unpin,
    wished: Option<Platform>,
    progress: Progress,
) -> Result<Vec<Loaded>> {
    let claim = Arc::new(Claim::on(inner, &[]));
    let (feed, reader) = feed();
    let unpacking = {
        let (inner, claim, progress) = (Arc::clone(inner), Arc::clone(&claim), progress.clone());
        run_blocking(move || unpack(&inner, &claim, reader, wished.as_ref(), &progress))
    };
    let (copied, unpacked) = tokio::join!(feed.copy(source), unpacking);
    copied?;
    let Unpacked { images, artifacts, entries } = unpacked?;

    let mut writer = inner.write().await;
    for image in images {
        image.add_to(&mut writer);
    }
    for (artifact, attached) in artifacts {
        artifact.add_to(Vec::new(), attached, &mut writer);
    }
    let mut loaded = Vec::new();
    let mut renamed = Vec::new();
    for ArchivedEntry { tag, target } in entries {
        let Some(id) = target.images.first().map(|member| member.id) else { continue };
        if let Some(tag) = &tag
            && let Some(old) = name(&mut writer.draft, tag, target)
        {
            renamed.push((tag.familiar(), old));
        }
        let id = tag.as_ref().and_then(|tag| writer.draft.catalog.reference(tag)).unwrap_or(id);
        loaded.push(Loaded { id, tag: tag.map(|tag| tag.familiar()) });
    }
    writer.commit_claimed(claim).await?;
    tell_all(&progress, renamed, &loaded).await;
    Ok(loaded)
}

/// Gives a name to what was loaded. A name that stands for a document from a registry keeps it when the archive has nothing but
/// images of that document.
fn name(draft: &mut Draft, tag: &Reference, target: Target) -> Option<ImageId> {
    let old = draft.catalog.target(tag);
    let has_all = |old: &Target| old.descriptor.is_some() && target.images.iter().all(|member| old.has(&member.id));
    if old.is_some_and(|old| has_all(old)) {
        return None;
    }
    draft.put_reference(tag, target, None)
}

async fn tell_all(progress: &Progress, renamed: Vec<(String, ImageId)>, loaded: &[Loaded]) {
    let renamed = renamed.into_iter().map(|(tag, old)| LoadProgress::Renamed { tag, old });
    for message in renamed.chain(loaded.iter().cloned().map(LoadProgress::Loaded)) {
        // Nobody listening is no reason to stop.
        let _ = progress.send(message).await;
    }
}

/// What was in the archive, its layers and blobs at hand.
struct Unpacked {
    images: Vec<NewImage>,
    artifacts: Vec<(NewArtifact, Vec<NewAttached>)>,
    entries: Vec<ArchivedEntry>,
}

/// Reads the archive and brings the layers of its images into the store.
fn unpack(
    inner: &Arc<Inner>,
    claim: &Claim,
    reader: FeedReader,
    wished: Option<&Platform>,
    progress: &Progress,
) -> Result<Unpacked> {
    let spool = nameless_file(inner.store.root())?;
    let archived = archive::read(archive::spool(reader, spool, inner.guards.limits)?, wished, &|source| {
        inner.guards.admit_archive(source)
    })?;
    let (mut attached, mut alone) = (BTreeMap::<ImageId, Vec<NewAttached>>::new(), Vec::new());
    for ArchivedArtifact { artifact, raw, blobs, attached: place } in archived.artifacts {
        let staged = artifact.blobs.iter().zip(blobs).map(|(blob, slice)| stage(inner, blob, slice));
        let new = NewArtifact { staged: staged.collect::<Result<_>>()?, artifact, raw };
        match place {
            Some((owner, subject, by)) => attached.entry(owner).or_default().push(NewAttached { subject, by, new }),
            None => alone.push(new),
        }
    }
    let images = archived.images.into_iter().map(|image| {
        let attached = attached.remove(&image.id).unwrap_or_default();
        Ok(NewImage { attached, ..unpack_image(inner, claim, image, progress)? })
    });
    let images = images.collect::<Result<_>>()?;
    let with_its_own = |new: NewArtifact| {
        let own = attached.remove(&new.artifact.manifest.digest).unwrap_or_default();
        (new, own)
    };
    let artifacts = alone.into_iter().map(with_its_own).collect();
    Ok(Unpacked { images, artifacts, entries: archived.entries })
}

/// Copies a blob of the archive to where it waits for its artifact.
fn stage(inner: &Inner, blob: &Descriptor, mut slice: Slice) -> Result<StagedBlob> {
    let mut ingest = inner.store.blobs().ingest()?;
    std::io::copy(&mut slice, &mut ingest)?;
    Ok(ingest.finish(Some(&blob.digest), Some(blob.size))?)
}

fn unpack_image(inner: &Arc<Inner>, claim: &Claim, image: ArchivedImage, progress: &Progress) -> Result<NewImage> {
    let diff_ids = image.parsed.rootfs.diff_ids.clone();
    let chains = ChainId::chain(&diff_ids);
    claim.add(&chains);
    let layers = inner.store.layers();
    let mut layer_sizes = Vec::new();
    let mut below = None;
    for ((chain, diff_id), slice) in chains.iter().zip(&diff_ids).zip(image.layers) {
        if layers.get(chain)?.is_none() {
            let options =
                UnpackOptions { diff_id: Some(*diff_id), limits: inner.guards.limits, ..UnpackOptions::default() };
            let staged = layers.stage()?.unpack(Reporting::new(slice, diff_id.short(), progress), &options)?;
            layers.commit(below.as_ref(), vec![staged])?;
        }
        let info = layers.get(chain)?.ok_or(skep_store::StoreError::NoLayer(*chain))?;
        layer_sizes.push(info.size);
        below = Some(*chain);
    }
    let manifests = image.documents.into_iter().collect();
    Ok(NewImage { config: image.config, parsed: image.parsed, layer_sizes, manifests, attached: Vec::new() })
}

/// A file that is gone when it is closed, however that happens.
pub(super) fn nameless_file(dir: &Path) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR).map_err(std::io::Error::from)?;
    Ok(File::from(fd))
}

/// A layer that tells how far it is read.
struct Reporting<'a> {
    slice: Slice,
    id: String,
    total: u64,
    told: u64,
    progress: &'a Progress,
}

impl<'a> Reporting<'a> {
    fn new(slice: Slice, id: String, progress: &'a Progress) -> Self {
        Reporting { total: slice.len(), slice, id, told: 0, progress }
    }
}

impl Read for Reporting<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = self.slice.read(out)?;
        let current = self.total - self.slice.len();
        if current - self.told >= TICK || (count == 0 && current != self.told) {
            self.told = current;
            let message = LoadProgress::Layer { id: self.id.clone(), current, total: self.total };
            // A slow listener misses some.
            let _ = self.progress.try_send(message);
        }
        Ok(count)
    }
}

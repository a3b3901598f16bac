//! Fetching artifacts: those that a name leads to, and those that say something about what was pulled.
//!
//! What an index lists about an image (`vnd.docker.reference.type`) comes with the image, if it is small; what only refers to it comes
//! when it is asked for (`pull --referrers`), with what refers to that.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use skep_registry::{BlobPart, Descriptor, FetchedManifest, Manifest, RegistryError, Repository};
use skep_store::{StagedBlob, StoreError};
use skep_types::{Digest, Selector};

use super::artifact::{Artifact, Attached, NewArtifact, NewAttached, Way};
use super::bridge::feed;
use super::change::run_blocking;
use super::manifests::attestation_about;
use super::pull::Reporter;
use super::{ImageError, Inner, Result};
use crate::model::image::LayerState;

/// What comes unasked of the statements in an index: so many, and so many bytes of each.
const MAX_ATTESTATIONS: usize = 16;
const MAX_ATTESTATION: u64 = 32 << 20;
/// What comes when it is asked for.
const MAX_REFERRERS: usize = 256;
/// A signature of a list of contents of an image is two steps away from it.
const MAX_DEPTH: usize = 3;

/// Fetches an artifact's blobs, several at once. `report` makes the listener for each.
pub(super) async fn artifact(
    inner: &Arc<Inner>,
    repository: &Repository,
    served: FetchedManifest,
    report: impl Fn(&Descriptor) -> Option<Reporter>,
) -> Result<NewArtifact> {
    let artifact = Artifact::of(&served)?;
    let fetched = artifact.blobs.iter().map(|blob| {
        let (inner, repository, blob, report) = (Arc::clone(inner), repository.clone(), blob.clone(), report(blob));
        async move { fetch(&inner, &repository, &blob, report.as_ref()).await }
    });
    let staged = stream::iter(fetched.collect::<Vec<_>>())
        .buffered(inner.registry.max_concurrent_downloads.max(1))
        .try_collect()
        .await?;
    Ok(NewArtifact { artifact, raw: served.raw, staged })
}

/// Brings one blob beside the store: from there if it is there, else from the registry.
async fn fetch(
    inner: &Arc<Inner>,
    repository: &Repository,
    wanted: &Descriptor,
    report: Option<&Reporter>,
) -> Result<StagedBlob> {
    let say = async |state| {
        if let Some(report) = report {
            report.state(state).await;
        }
    };
    let (blobs, digest) = (inner.store.blobs().clone(), wanted.digest);
    if let Some(staged) = run_blocking(move || Ok(blobs.stage_again(&digest)?)).await? {
        say(LayerState::Exists).await;
        return Ok(staged);
    }
    download(inner, repository, wanted, report).await
}

/// Brings one blob from the registry beside the store.
pub(super) async fn download(
    inner: &Arc<Inner>,
    repository: &Repository,
    wanted: &Descriptor,
    report: Option<&Reporter>,
) -> Result<StagedBlob> {
    let say = async |state| {
        if let Some(report) = report {
            report.state(state).await;
        }
    };
    let digest = wanted.digest;
    let limit = inner.guards.limits.bytes;
    if wanted.size > limit {
        return Err(RegistryError::TooLarge { what: format!("blob {digest}"), limit }.into());
    }
    say(LayerState::Pulling).await;
    loop {
        let mut blob = repository.blob(wanted);
        match receive(inner, &mut blob, wanted, report).await {
            Err(ImageError::Registry(RegistryError::Digest { .. })) if blob.distrust() => {}
            Ok(staged) => {
                say(LayerState::Complete).await;
                return Ok(staged);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Writes what comes to a file beside the store.
async fn receive(
    inner: &Arc<Inner>,
    blob: &mut skep_registry::Blob,
    wanted: &Descriptor,
    report: Option<&Reporter>,
) -> Result<StagedBlob> {
    let (feed, mut reader) = feed();
    let (blobs, digest, total) = (inner.store.blobs().clone(), wanted.digest, wanted.size);
    let writing = run_blocking(move || {
        let mut ingest = blobs.ingest()?;
        io::copy(&mut reader, &mut ingest)?;
        ingest.finish(Some(&digest), Some(total)).map_err(|error| match error {
            StoreError::DigestMismatch { wanted, .. } => {
                RegistryError::Digest { what: "blob", expected: wanted }.into()
            }
            other => ImageError::from(other),
        })
    });
    let reading = async {
        let mut current = 0;
        while let Some(part) = blob.next().await? {
            let BlobPart::Data(data) = part else { continue };
            current += data.len() as u64;
            if feed.send(data).await.is_err() {
                return Ok(());
            }
            if let Some(report) = report {
                report.tick(LayerState::Downloading { current, total });
            }
        }
        feed.finish().await;
        Ok::<_, ImageError>(())
    };
    let (read, written) = tokio::join!(reading, writing);
    read?;
    written
}

/// What the indexes that led to `about` say of it. An image doesn't fail by it: a registry may have thrown it away.
pub(super) async fn attestations(
    inner: &Arc<Inner>,
    repository: &Repository,
    documents: &[(Digest, Vec<u8>)],
    about: &Digest,
    known: &[Attached],
) -> Vec<NewAttached> {
    let mut found = Vec::new();
    for entry in attesting(documents, about, known) {
        match attestation(inner, repository, &entry).await {
            Ok(Some(new)) => found.push(NewAttached { subject: *about, by: Way::Index, new }),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(digest = %entry.digest, %error, "what an index says of an image could not be fetched");
            }
        }
    }
    found
}

/// The entries of indexes that are about a manifest, and new.
fn attesting(documents: &[(Digest, Vec<u8>)], about: &Digest, known: &[Attached]) -> Vec<Descriptor> {
    let indexes = documents.iter().filter_map(|(_, raw)| match Manifest::parse(raw, "") {
        Ok(Manifest::Index(index)) => Some(index.manifests),
        Ok(Manifest::Image(_) | Manifest::Artifact(_)) | Err(_) => None,
    });
    let is_new = |entry: &Descriptor| known.iter().all(|known| known.artifact.manifest.digest != entry.digest);
    let wanted = indexes.flatten().filter(|entry| attestation_about(entry) == Some(*about) && is_new(entry));
    wanted.take(MAX_ATTESTATIONS).collect()
}

async fn attestation(inner: &Arc<Inner>, repository: &Repository, entry: &Descriptor) -> Result<Option<NewArtifact>> {
    let served = repository.manifest(&Selector::Digest(entry.digest)).await?;
    let Manifest::Artifact(manifest) = &served.manifest else { return Ok(None) };
    if let Some(large) = manifest.blobs.iter().find(|blob| blob.size > MAX_ATTESTATION) {
        tracing::info!(digest = %entry.digest, size = large.size, "what an index says of an image is too large to come with it");
        return Ok(None);
    }
    artifact(inner, repository, served, |_| None).await.map(Some)
}

/// All that refers to the documents of an image, and what refers to that.
pub(super) async fn referrers(
    inner: &Arc<Inner>,
    repository: &Repository,
    subjects: impl IntoIterator<Item = Digest>,
    report: impl Fn(&Descriptor) -> Option<Reporter>,
) -> Result<Vec<NewAttached>> {
    let mut queue: VecDeque<(Digest, usize)> = subjects.into_iter().map(|digest| (digest, 0)).collect();
    let mut seen: BTreeSet<(Digest, Digest)> = BTreeSet::new();
    let mut found = Vec::new();
    while let Some((subject, depth)) = queue.pop_front() {
        for referrer in repository.all_referrers(&subject).await? {
            if !seen.insert((subject, referrer.digest)) {
                continue;
            }
            if seen.len() > MAX_REFERRERS {
                let what = "list of referrers".to_owned();
                return Err(RegistryError::TooLarge { what, limit: MAX_REFERRERS as u64 }.into());
            }
            let served = repository.referrer(&referrer).await?;
            let Manifest::Artifact(manifest) = &served.manifest else {
                tracing::info!(digest = %referrer.digest, "a referrer that is an image or an index is left in its registry");
                continue;
            };
            let by = match referrer.tag {
                Some(tag) => Way::Tag(tag),
                None if manifest.subject.as_ref().is_some_and(|named| named.digest == subject) => Way::Subject,
                None => continue,
            };
            if depth + 1 < MAX_DEPTH {
                queue.push_back((referrer.digest, depth + 1));
            }
            let new = artifact(inner, repository, served, &report).await?;
            found.push(NewAttached { subject, by, new });
        }
    }
    Ok(found)
}

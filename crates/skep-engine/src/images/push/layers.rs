//! Bringing layers to a repository: found there, mounted, or made again, compressed and uploaded.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use skep_registry::{BlobSource, BlobStream, Descriptor, Mount, RegistryError, Repository, UploadEvent, UploadSession};
use skep_store::{ChainId, LayerTar, Layers};
use skep_types::{Digest, ErrorKind, Reference};
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use super::super::bridge::StreamWriter;
use super::super::built::Coding;
use super::super::change::run_blocking;
use super::super::sources::{self, LayerSource};
use super::super::{ImageError, Inner, Result};
use super::document::{compression_of, uploaded_type};
use super::{Progress, tell};
use crate::model::image::{LayerCompression, PushProgress, PushState};

/// Blobs that are looked for, per layer.
const MAX_CHECKS: usize = 4;
/// Mounts that are tried, per layer.
const MAX_MOUNTS: usize = 4;
/// Least time between two reports of an upload's progress.
const TICK: Duration = Duration::from_millis(100);

/// The way of layers to one repository, shared by all images of a push: a layer goes once.
pub(in crate::images) struct Transfer {
    shared: Arc<Shared>,
    done: Mutex<HashMap<Digest, Arc<OnceCell<Descriptor>>>>,
}

struct Shared {
    inner: Arc<Inner>,
    repository: Repository,
    /// The only blobs that will do, by their compression.
    only: Option<LayerCompression>,
    /// How a layer is written that the registry doesn't have; as it came, else with gzip, if nobody says.
    coding: Option<Coding>,
    progress: Progress,
    permits: Semaphore,
}

/// One layer to bring there.
struct Job {
    diff_id: Digest,
    chain: ChainId,
    /// Its blob in the manifest that the image came with.
    original: Option<Descriptor>,
}

impl Transfer {
    pub(in crate::images) fn new(
        inner: &Arc<Inner>,
        repository: &Repository,
        only: Option<LayerCompression>,
        coding: Option<Coding>,
        progress: Progress,
    ) -> Self {
        let permits = Semaphore::new(inner.registry.max_concurrent_uploads.max(1));
        let (inner, repository) = (Arc::clone(inner), repository.clone());
        Transfer {
            shared: Arc::new(Shared { inner, repository, only, coding, progress, permits }),
            done: Mutex::default(),
        }
    }

    /// Brings all layers of an image there, each with the stack that ends with it; returns their blobs, base first.
    pub(in crate::images) async fn layers(
        &self,
        stacks: Vec<(Digest, ChainId)>,
        wanted: Option<&[Descriptor]>,
    ) -> Result<Vec<Descriptor>> {
        // As Docker: the topmost first.
        for (diff_id, _) in stacks.iter().rev() {
            self.shared.say(diff_id, PushState::Preparing).await;
        }
        let mut tasks = JoinSet::new();
        for (index, (diff_id, chain)) in stacks.iter().copied().enumerate().rev() {
            let cell = Arc::clone(self.done.lock().entry(diff_id).or_default());
            let shared = Arc::clone(&self.shared);
            let original = wanted.and_then(|layers| layers.get(index)).cloned();
            let job = Job { diff_id, chain, original };
            tasks.spawn(async move {
                if cell.initialized() {
                    shared.say(&job.diff_id, PushState::Exists).await;
                }
                let blob = cell.get_or_try_init(|| shared.bring(&job)).await?;
                Ok::<_, ImageError>((index, blob.clone()))
            });
        }
        let mut found: Vec<Option<Descriptor>> = vec![None; stacks.len()];
        while let Some(done) = tasks.join_next().await {
            let (index, blob) = match done {
                Ok(result) => result?,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => return Err(ImageError::Cancelled),
            };
            found[index] = Some(blob);
        }
        Ok(found.into_iter().flatten().collect())
    }
}

impl Shared {
    async fn say(&self, diff_id: &Digest, state: PushState) {
        tell(&self.progress, PushProgress::Layer { id: diff_id.short(), state }).await;
    }

    async fn bring(&self, job: &Job) -> Result<Descriptor> {
        if self.permits.available_permits() == 0 {
            self.say(&job.diff_id, PushState::Waiting).await;
        }
        let _permit = self.permits.acquire().await.map_err(|_| ImageError::Cancelled)?;
        let candidates = self.candidates(job).await?;
        for candidate in candidates.iter().take(MAX_CHECKS) {
            if self.repository.blob_size(&candidate.digest).await? == Some(candidate.size) {
                self.say(&job.diff_id, PushState::Exists).await;
                return Ok(described(candidate));
            }
        }
        let session = match self.mount(job, &candidates).await? {
            Ok(mounted) => return Ok(mounted),
            Err(session) => session,
        };
        self.upload(job, session).await
    }

    /// Blobs that hold the layer, as far as it is known: the image's own first, then those that this repository had, then those of
    /// its registry.
    async fn candidates(&self, job: &Job) -> Result<Vec<LayerSource>> {
        let (db, diff_id) = (self.inner.store.db().clone(), job.diff_id);
        let mut known = run_blocking(move || Ok(sources::of_layer(&db, &diff_id)?)).await?;
        if let Some(original) = job.original.as_ref().filter(|own| known.iter().all(|k| k.digest != own.digest)) {
            let Descriptor { digest, size, media_type, .. } = original.clone();
            known.push(LayerSource { digest, size, media_type, repositories: Vec::new() });
        }
        if let Some(wanted) = self.only {
            known.retain(|source| compression_of(&source.media_type) == wanted);
        }
        let here = self.repository.reference().canonical_name();
        let own = job.original.as_ref().map(|own| own.digest);
        known.sort_by_key(|source| {
            let near = match &source.repositories {
                all if all.contains(&here) => 0,
                all if all.iter().any(|name| self.in_registry(name).is_some()) => 1,
                _ => 2,
            };
            (own != Some(source.digest), near)
        });
        Ok(known)
    }

    /// The path of a repository in this registry that is not the one pushed to.
    fn in_registry(&self, name: &str) -> Option<String> {
        let here = self.repository.reference();
        let other: Reference = name.parse().ok()?;
        (other.registry() == here.registry() && other.path() != here.path()).then(|| other.path().to_owned())
    }

    /// Blobs with a repository of this registry that had them.
    fn places(&self, candidates: &[LayerSource]) -> Vec<(LayerSource, String)> {
        let mut places = Vec::new();
        for candidate in candidates {
            let paths = candidate.repositories.iter().filter_map(|name| self.in_registry(name));
            places.extend(paths.map(|path| (candidate.clone(), path)));
        }
        places.truncate(MAX_MOUNTS);
        places
    }

    /// Tries to take the layer from another repository; else gives the upload that the registry began instead, if it did.
    async fn mount(&self, job: &Job, candidates: &[LayerSource]) -> Result<Result<Descriptor, Option<UploadSession>>> {
        let mut begun: Option<UploadSession> = None;
        for (candidate, from) in self.places(candidates) {
            match self.repository.mount(&candidate.digest, &from).await {
                Ok(Mount::Mounted) => {
                    if let Some(session) = begun {
                        self.repository.cancel_upload(session).await;
                    }
                    self.say(&job.diff_id, PushState::Mounted(from)).await;
                    return Ok(Ok(described(&candidate)));
                }
                Ok(Mount::Refused(session)) => {
                    if let Some(earlier) = begun.replace(session) {
                        self.repository.cancel_upload(earlier).await;
                    }
                }
                // The user may not read there, or it is gone: then the layer is uploaded.
                Err(error) if may_be_refused(&error) => {
                    tracing::debug!(%from, %error, "a layer can't be mounted");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Err(begun))
    }

    async fn upload(&self, job: &Job, session: Option<UploadSession>) -> Result<Descriptor> {
        let as_original = || job.original.as_ref().map(|own| compression_of(&own.media_type));
        let usual = || Coding { compression: as_original().unwrap_or(LayerCompression::Gzip), level: None };
        let coding = self.coding.unwrap_or_else(usual);
        let layers = self.inner.store.layers().clone();
        let archive = Archive {
            total: layers.get(&job.chain)?.ok_or(skep_store::StoreError::NoLayer(job.chain))?.tar_size,
            layers,
            chain: job.chain,
            id: job.diff_id.short(),
            coding,
            progress: self.progress.clone(),
        };
        self.say(&job.diff_id, PushState::Pushing { current: 0, total: archive.total }).await;
        let retrying = |event: UploadEvent| {
            let UploadEvent::Retrying(wait) = event;
            let state = PushState::Retrying(wait.as_secs().max(1));
            let _ = self.progress.try_send(PushProgress::Layer { id: job.diff_id.short(), state });
        };
        let uploaded = self.repository.upload(&archive, session, retrying).await?;
        self.say(&job.diff_id, PushState::Pushed).await;
        Ok(Descriptor {
            media_type: uploaded_type(coding.compression).to_owned(),
            digest: uploaded.digest,
            size: uploaded.size,
            platform: None,
            annotations: Default::default(),
        })
    }
}

fn may_be_refused(error: &RegistryError) -> bool {
    match error {
        RegistryError::Transport { .. } | RegistryError::Status(_) => false,
        RegistryError::Api(_)
        | RegistryError::NoCredentials { .. }
        | RegistryError::Token { .. }
        | RegistryError::Unreadable { .. } => true,
        other => matches!(other.kind(), ErrorKind::Forbidden | ErrorKind::NotFound),
    }
}

fn described(source: &LayerSource) -> Descriptor {
    let LayerSource { digest, size, media_type, .. } = source.clone();
    Descriptor { media_type, digest, size, platform: None, annotations: Default::default() }
}

/// A layer's archive, made anew each time it is opened.
struct Archive {
    layers: Layers,
    chain: ChainId,
    total: u64,
    id: String,
    coding: Coding,
    progress: Progress,
}

impl BlobSource for Archive {
    fn open(&self) -> BlobStream {
        let (writer, receiver) = StreamWriter::new();
        let (layers, chain) = (self.layers.clone(), self.chain);
        let (id, total, progress) = (self.id.clone(), self.total, self.progress.clone());
        let coding = self.coding;
        tokio::task::spawn_blocking(move || {
            let mut writer = writer;
            let result = layers.tar_stream(&chain).map_err(ImageError::from).and_then(|tar| {
                let counted = Counted { tar, id, total, current: 0, told: Instant::now(), progress };
                Ok(coding.encode(counted, &mut writer)?)
            });
            writer.end(result);
        });
        let pieces = ReceiverStream::new(receiver);
        Box::pin(pieces.map(|piece: Result<Bytes>| piece.map_err(|error| io::Error::other(error.to_string()))))
    }
}

/// An archive that tells how far it is read.
struct Counted {
    tar: LayerTar,
    id: String,
    total: u64,
    current: u64,
    told: Instant,
    progress: Progress,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.tar.read(out)?;
        self.current += count as u64;
        if self.told.elapsed() >= TICK || (count == 0 && !out.is_empty()) {
            self.told = Instant::now();
            let state = PushState::Pushing { current: self.current, total: self.total };
            // A slow listener misses some.
            let _ = self.progress.try_send(PushProgress::Layer { id: self.id.clone(), state });
        }
        Ok(count)
    }
}

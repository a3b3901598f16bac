//! One layer: from its blob in the registry to an unpacked layer that waits to be published.
//!
//! ```text
//! what is kept of it ─┐                                    ┌──► unpack, as it comes
//!                     ├─► Input (a thread) ─► sha256 ──────┤
//! registry ─► (channel)        └─► what is kept grows      └──► digest and length compared at the end
//! ```
//! Of a large blob the bytes are kept beside, until the layer is published: a pull that is cut short, by its client, by the daemon's
//! end or the machine's, goes on where it was. Keeping them costs a copy into the page cache, and no disk as long as the pull is short.
//! What was kept counts for nothing until the digest of the whole is right; when it is wrong, the blob is fetched once more from the start.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use bytes::Bytes;
use skep_registry::{BlobPart, Descriptor, RegistryError, Repository};
use skep_store::{Limits, Partial, StagedLayer, Store, StoreError, UnpackOptions};
use skep_types::Digest;

use super::bridge::{Feed, FeedReader, feed};
use super::change::run_blocking;
use super::{ImageError, Result};
use crate::model::image::LayerState;

/// Blobs smaller than this are fetched again rather than kept.
const KEPT_FROM: u64 = 4 << 20;
/// How long a download that was just given up may take to let go of what it kept.
const HANDOVER: Duration = Duration::from_secs(3);
/// Least time between two reports of a download's progress.
const TICK: Duration = Duration::from_millis(100);

/// What to fetch.
pub(super) struct Wanted<'a> {
    pub(super) blob: &'a Descriptor,
    pub(super) diff_id: Digest,
    pub(super) limits: Limits,
}

/// Where progress goes.
pub(super) trait Listener: Sync {
    /// A state that must be told.
    fn state(&self, state: LayerState) -> impl Future<Output = ()> + Send;
    /// A report that may get lost when the listener is slow.
    fn tick(&self, state: LayerState);
}

/// A layer that was fetched, with what is kept of its blob until it is published.
pub(super) struct Downloaded {
    pub(super) layer: StagedLayer,
    pub(super) kept: Option<Partial>,
}

/// Downloads and unpacks a layer.
pub(super) async fn download(
    store: &Store,
    repository: &Repository,
    wanted: &Wanted<'_>,
    listener: &impl Listener,
) -> Result<Downloaded> {
    loop {
        let kept = take_kept(store, wanted.blob).await;
        let resumed = kept.as_ref().is_some_and(|kept| kept.size() > 0);
        let mut blob = repository.blob_from(wanted.blob, kept.as_ref().map_or(0, Partial::size));
        match attempt(store, &mut blob, wanted, kept, listener).await {
            // Either what was kept is damaged, and is gone now, or a mirror lies, and is not asked any more.
            Err(error) if is_wrong_content(&error) && (resumed || blob.distrust()) => {
                tracing::warn!(digest = %wanted.blob.digest, %error, resumed, "a layer's bytes were wrong, fetching it again");
            }
            Err(ImageError::Store(StoreError::DigestMismatch { wanted, .. })) => {
                return Err(RegistryError::Digest { what: "filesystem layer", expected: wanted }.into());
            }
            result => return result,
        }
    }
}

fn is_wrong_content(error: &ImageError) -> bool {
    matches!(error, ImageError::Store(StoreError::DigestMismatch { .. }))
}

/// What is kept of a blob, if it is one to be kept. Failures cost the resumption, not the pull.
async fn take_kept(store: &Store, blob: &Descriptor) -> Option<Partial> {
    if blob.size < KEPT_FROM {
        return None;
    }
    let (partials, digest, size) = (store.partials().clone(), blob.digest, blob.size);
    let take = move || {
        let mut kept = partials.take_within(&digest, HANDOVER)?;
        if let Some(kept) = kept.as_mut().filter(|kept| kept.size() > size) {
            kept.clear()?;
        }
        Ok(kept)
    };
    run_blocking(take).await.unwrap_or_else(|error| {
        tracing::warn!(%digest, %error, "a download that breaks off will have to start again");
        None
    })
}

async fn attempt(
    store: &Store,
    blob: &mut skep_registry::Blob,
    wanted: &Wanted<'_>,
    kept: Option<Partial>,
    listener: &impl Listener,
) -> Result<Downloaded> {
    let start = kept.as_ref().map_or(0, Partial::size);
    let (feed, reader) = feed();
    let options = UnpackOptions {
        digest: Some(wanted.blob.digest),
        size: Some(wanted.blob.size),
        diff_id: Some(wanted.diff_id),
        limits: wanted.limits,
    };
    let layers = store.layers().clone();
    let unpacking = tokio::task::spawn_blocking(move || {
        let mut input = Input::new(reader, kept)?;
        let result = layers.stage().and_then(|stage| stage.unpack(&mut input, &options));
        input.settle(result)
    });
    let fed = feed_all(blob, feed, start, listener).await;
    let unpacked = match unpacking.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => return Err(ImageError::Cancelled),
    };
    fed?;
    Ok(unpacked?)
}

/// Passes on what the registry gives.
async fn feed_all(
    blob: &mut skep_registry::Blob,
    feed: Feed,
    start: u64,
    listener: &impl Listener,
) -> Result<(), RegistryError> {
    let (mut current, total) = (start, blob.size());
    let mut last = Instant::now();
    listener.state(LayerState::Downloading { current, total }).await;
    while let Some(part) = blob.next().await? {
        match part {
            BlobPart::Data(data) => {
                current += data.len() as u64;
                if feed.send(data).await.is_err() {
                    // The unpacker failed, and tells why.
                    return Ok(());
                }
                if last.elapsed() >= TICK {
                    last = Instant::now();
                    listener.tick(LayerState::Downloading { current, total });
                }
            }
            BlobPart::Retrying(wait) => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                listener.state(LayerState::Retrying(seconds)).await;
            }
        }
    }
    listener.state(LayerState::Downloading { current, total }).await;
    listener.state(LayerState::Verifying).await;
    listener.state(LayerState::Downloaded).await;
    listener.state(LayerState::Extracting { current, total }).await;
    feed.finish().await;
    Ok(())
}

/// A blob as the unpacker reads it: what is kept of it first, then what comes, which is kept too.
struct Input {
    before: Option<Box<dyn Read + Send>>,
    reader: FeedReader,
    kept: Option<Partial>,
}

impl Input {
    fn new(reader: FeedReader, kept: Option<Partial>) -> Result<Self, StoreError> {
        let before = match &kept {
            Some(kept) if kept.size() > 0 => Some(Box::new(kept.reader()?) as Box<dyn Read + Send>),
            _ => None,
        };
        Ok(Input { before, reader, kept })
    }

    /// Decides about what was kept: it stays with the layer, or for another try if the download broke off, and goes otherwise.
    fn settle(mut self, result: Result<StagedLayer, StoreError>) -> Result<Downloaded, StoreError> {
        match result {
            Ok(layer) => Ok(Downloaded { layer, kept: self.kept }),
            Err(error) => {
                if !self.reader.broke_off() {
                    self.forget();
                }
                Err(error)
            }
        }
    }

    fn forget(&mut self) {
        if let Some(kept) = self.kept.take() {
            kept.discard();
        }
    }
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Some(before) = &mut self.before {
            match before.read(out)? {
                0 if !out.is_empty() => self.before = None,
                count => return Ok(count),
            }
        }
        let Input { reader, kept, .. } = self;
        let mut failure = None;
        let count = reader.read_with(out, |arrived: &Bytes| {
            if let Some(kept) = kept {
                failure = kept.append(arrived).err();
            }
        })?;
        if let Some(error) = failure {
            tracing::warn!(%error, "what a download got can't be kept: if it breaks off, it has to start again");
            self.forget();
        }
        Ok(count)
    }
}

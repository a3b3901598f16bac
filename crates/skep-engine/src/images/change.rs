//! How the catalog is changed: under one lock, in one commit, to its end; and what goes when nothing needs it any more.

use std::sync::Arc;

use skep_store::{ChainId, LayerLease, Layers, StagedBlob, crash_point};
use skep_types::Digest;
use tokio::sync::OwnedMutexGuard;

use super::catalog::Catalog;
use super::draft::Draft;
use super::{ImageError, Inner, Result, records};

/// The right to change the catalog.
pub(super) struct Writer {
    inner: Arc<Inner>,
    _guard: OwnedMutexGuard<()>,
    pub(super) draft: Draft,
    /// Blobs that the draft's images need and that have to be stored before it is.
    pub(super) blobs: Vec<(Digest, Vec<u8>)>,
    /// Larger ones, which wait beside the store.
    pub(super) staged: Vec<StagedBlob>,
}

/// What a commit removed because nothing needs it any more.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    /// Layers, and the bytes that they had.
    pub(crate) layers: Vec<(ChainId, u64)>,
    /// Bytes of blobs that were kept as they came.
    pub(crate) blobs: u64,
}

impl Inner {
    /// Waits for its turn to change the catalog.
    pub(super) async fn write(self: &Arc<Self>) -> Writer {
        let guard = Arc::clone(&self.writer).lock_owned().await;
        let draft = Draft::of(&self.catalog.read());
        Writer { inner: Arc::clone(self), _guard: guard, draft, blobs: Vec::new(), staged: Vec::new() }
    }

    /// Removes layers that no image, no container and no lease needs: these three are all that can need one.
    pub(super) fn collect_layers(&self) -> Result<Vec<ChainId>> {
        // No image appears between the reading of the tops and the end: its maker's lease would end unseen.
        let _guard = self.collecting.lock();
        let gone = self.store.layers().collect(&self.tops(&self.catalog())?)?;
        self.changed.notify_one();
        Ok(gone)
    }

    /// The topmost layers that images of this catalog and containers need.
    pub(super) fn tops(&self, catalog: &Catalog) -> Result<Vec<ChainId>> {
        let mut tops = catalog.tops();
        tops.extend((self.container_layers)()?);
        Ok(tops)
    }

    fn remove_blobs(&self, catalog: &Catalog, candidates: impl IntoIterator<Item = Digest>) {
        let needed = catalog.blobs_in_use();
        for digest in candidates.into_iter().filter(|digest| !needed.contains(digest)) {
            if let Err(error) = self.store.blobs().remove(&digest) {
                tracing::warn!(%digest, %error, "a blob that nothing needs could not be removed");
            }
        }
    }
}

impl Writer {
    /// Stores the draft and makes it the catalog. Once begun it runs to its end, even if nobody waits for it.
    pub(super) async fn commit(self) -> Result<Freed> {
        run_blocking(move || self.commit_now()).await
    }

    /// The same, of images whose layers `claim` keeps: until they are there, for whoever began this may be gone before.
    pub(super) async fn commit_claimed(self, claim: Arc<Claim>) -> Result<Freed> {
        let commit = move || {
            let freed = self.commit_now()?;
            Claim::made(claim);
            Ok(freed)
        };
        run_blocking(commit).await
    }

    fn commit_now(&self) -> Result<Freed> {
        let Writer { inner, draft: Draft { catalog, changes }, blobs, staged, .. } = self;
        let old = Arc::clone(&inner.catalog.read());
        if changes.is_empty() {
            return Ok(Freed::default());
        }
        let stored = blobs
            .iter()
            .try_for_each(|(digest, bytes)| {
                inner.store.blobs().put(bytes, Some(digest)).map(drop).map_err(ImageError::from)
            })
            .and_then(|()| Ok(staged.iter().try_for_each(StagedBlob::publish)?))
            .and_then(|()| {
                crash_point("image-blobs");
                records::store(inner.store.db(), changes)
            });
        if let Err(error) = stored {
            let added = blobs.iter().map(|(digest, _)| *digest);
            inner.remove_blobs(&old, added.chain(staged.iter().map(|blob| *blob.digest())));
            return Err(error);
        }
        {
            let _guard = inner.collecting.lock();
            *inner.catalog.write() = Arc::new(catalog.clone());
        }
        crash_point("image-stored");
        // What only the old catalog needed goes, now that nothing stored leads to it.
        inner.remove_blobs(catalog, old.blobs_in_use());
        inner.changed.notify_one();
        let mut freed = Freed { blobs: lost_bytes(&old, catalog), ..Freed::default() };
        if old.tops() != catalog.tops() {
            if let Err(error) = super::sources::forget_unused(inner.store.db(), catalog) {
                tracing::warn!(%error, "what is known of layers that are gone could not be forgotten");
            }
            match inner.collect_layers() {
                Ok(gone) => freed.layers = gone.into_iter().map(|chain| (chain, old.layer_size(&chain))).collect(),
                Err(error) => tracing::warn!(%error, "layers that nothing needs could not be removed"),
            }
        }
        Ok(freed)
    }
}

/// Bytes of kept blobs that only the old catalog has.
pub(super) fn lost_bytes(old: &Catalog, new: &Catalog) -> u64 {
    let kept = new.kept_blobs();
    old.kept_blobs().iter().filter(|(digest, _)| !kept.contains_key(digest)).map(|(_, size)| size).sum()
}

/// Keeps the layers of an image that is being made. When it ends and the image was not made, its layers go.
///
/// Take it before looking which layers are there: from then on they stay.
pub(super) struct Claim {
    inner: Arc<Inner>,
    lease: Option<LayerLease>,
    made: bool,
}

impl Claim {
    pub(super) fn on(inner: &Arc<Inner>, layers: &[ChainId]) -> Self {
        let claim = Claim { inner: Arc::clone(inner), lease: Some(inner.store.layers().lease()), made: false };
        claim.add(layers);
        claim
    }

    pub(super) fn add(&self, layers: &[ChainId]) {
        for layer in layers {
            if let Some(lease) = &self.lease {
                lease.hold(layer);
            }
        }
    }
}

impl Claim {
    /// The image is there: it keeps its layers itself.
    fn made(claim: Arc<Self>) {
        if let Some(mut claim) = Arc::into_inner(claim) {
            claim.made = true;
        }
    }

    /// The layers of the store.
    pub(super) fn layers(&self) -> &Layers {
        self.inner.store.layers()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        drop(self.lease.take());
        if self.made {
            return;
        }
        let inner = Arc::clone(&self.inner);
        let collect = move || {
            if let Err(error) = inner.collect_layers() {
                tracing::warn!(%error, "layers that nothing needs could not be removed");
            }
        };
        // The last owner may be async code, which must not wait for the disk.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(collect)),
            Err(_) => collect(),
        }
    }
}

/// Runs blocking work to its end on a thread for it.
pub(super) async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(ImageError::Cancelled),
    }
}

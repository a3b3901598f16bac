//! Artifacts on their way to a registry: those that a tag means, and those that say something about what was pushed. They go byte for
//! byte as they came.
//!
//! What is attached to a manifest only goes with that manifest: an image whose layers had to be compressed anew has another one, which
//! nobody has signed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use skep_registry::{BlobSource, BlobStream, Descriptor, UploadEvent};
use skep_store::StoreError;
use skep_types::{Digest, Selector};
use tokio_stream::wrappers::ReceiverStream;

use super::super::artifact::{Artifact, Attached, Way};
use super::super::bridge::StreamWriter;
use super::super::change::run_blocking;
use super::super::{ImageError, Result};
use super::document::Document;
use super::{Push, tell};
use crate::model::image::{ImageId, PushProgress, PushState};

impl Push<'_> {
    /// Brings an artifact's blobs there; returns its manifest.
    pub(super) async fn artifact(&self, artifact: &Artifact) -> Result<Document> {
        let uploads = artifact.blobs.iter().map(|blob| self.artifact_blob(blob)).collect::<Vec<_>>();
        let at_once = self.inner.registry.max_concurrent_uploads.max(1);
        stream::iter(uploads).buffer_unordered(at_once).try_collect::<Vec<()>>().await?;
        let bytes = self.blob(artifact.manifest.digest).await?;
        Ok(Document { descriptor: artifact.manifest.clone(), bytes })
    }

    /// Pushes what is attached to the manifests of `pushed`, and what is attached to that.
    pub(super) async fn attached(&self, images: &[ImageId], pushed: impl IntoIterator<Item = Digest>) -> Result<()> {
        let mut waiting: Vec<Attached> = {
            let catalog = self.inner.catalog();
            let records = images.iter().filter_map(|id| catalog.any_image(id));
            let all = records.flat_map(|record| &record.attached).filter(|attached| attached.by != Way::Index);
            all.cloned().collect()
        };
        let mut there: BTreeSet<Digest> = pushed.into_iter().collect();
        while !waiting.is_empty() {
            let (ready, rest): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|attached| there.contains(&attached.subject));
            waiting = rest;
            if ready.is_empty() {
                break;
            }
            for attached in ready {
                self.attach(&attached).await?;
                there.insert(attached.artifact.manifest.digest);
            }
        }
        if let Some(first) = waiting.first() {
            let text = format!(
                "{} artifacts were not pushed: they are about {}, and the registry got another manifest",
                waiting.len(),
                first.subject
            );
            tell(&self.progress, PushProgress::Notice(text)).await;
        }
        Ok(())
    }

    async fn attach(&self, attached: &Attached) -> Result<()> {
        let Document { descriptor, bytes } = self.artifact(&attached.artifact).await?;
        match &attached.by {
            Way::Tag(tag) => {
                let selector = Selector::Tag(tag.clone());
                self.repository.put_manifest(&selector, &descriptor.media_type, bytes).await?;
            }
            Way::Subject | Way::Index => {
                let (kind, subject) = (&attached.artifact.kind, &attached.subject);
                self.repository.put_referrer(subject, &descriptor.media_type, kind, bytes).await?;
            }
        }
        Ok(())
    }

    async fn artifact_blob(&self, blob: &Descriptor) -> Result<()> {
        let id = blob.digest.short();
        let say = |state| tell(&self.progress, PushProgress::Layer { id: id.clone(), state });
        say(PushState::Preparing).await;
        if self.repository.blob_size(&blob.digest).await? == Some(blob.size) {
            say(PushState::Exists).await;
            return Ok(());
        }
        let (blobs, digest) = (self.inner.store.blobs().clone(), blob.digest);
        // Opened once: the image may be removed meanwhile.
        let file = Arc::new(run_blocking(move || Ok(blobs.open(&digest)?)).await?);
        say(PushState::Pushing { current: 0, total: blob.size }).await;
        let retrying = |event: UploadEvent| {
            let UploadEvent::Retrying(wait) = event;
            let state = PushState::Retrying(wait.as_secs().max(1));
            let _ = self.progress.try_send(PushProgress::Layer { id: id.clone(), state });
        };
        let uploaded = self.repository.upload(&StoredBlob(file), None, retrying).await?;
        if uploaded.digest != digest {
            return Err(StoreError::DigestMismatch { wanted: digest, got: uploaded.digest }.into());
        }
        say(PushState::Pushed).await;
        Ok(())
    }
}

/// A blob of the store.
struct StoredBlob(Arc<File>);

impl BlobSource for StoredBlob {
    fn open(&self) -> BlobStream {
        let (mut writer, receiver) = StreamWriter::new();
        let mut reader = FromStart { file: Arc::clone(&self.0), offset: 0 };
        tokio::task::spawn_blocking(move || {
            let copied = io::copy(&mut reader, &mut writer);
            writer.end(copied.map(drop).map_err(ImageError::from));
        });
        let pieces = ReceiverStream::new(receiver);
        Box::pin(pieces.map(|piece: Result<Bytes>| piece.map_err(|error| io::Error::other(error.to_string()))))
    }
}

/// A reader with a place of its own in a shared file.
struct FromStart {
    file: Arc<File>,
    offset: u64,
}

impl Read for FromStart {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(out, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

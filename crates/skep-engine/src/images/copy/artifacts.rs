//! Artifacts in outlines: their blobs go with the other documents, as they are small as a rule.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use skep_types::Digest;

use super::super::artifact::{Artifact, NewArtifact, NewAttached, Way};
use super::super::catalog::ImageRecord;
use super::super::change::run_blocking;
use super::super::{ImageError, Inner, Result};
use crate::model::copy::OutlinedArtifact;
use crate::model::image::ImageId;

/// The most bytes of artifacts in an outline.
const MAX_BYTES: u64 = 2 << 20;

/// The artifacts of an outline that is being made.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) list: Vec<OutlinedArtifact>,
    /// Their manifests and blobs.
    pub(super) documents: Vec<Digest>,
    bytes: u64,
}

/// The artifacts of an outline that came.
pub(super) struct Incoming {
    pub(super) attached: BTreeMap<ImageId, Vec<NewAttached>>,
    pub(super) alone: Vec<NewArtifact>,
}

impl Outgoing {
    /// Adds what an image has.
    pub(super) fn add(&mut self, id: &ImageId, record: &ImageRecord) -> Result<()> {
        if let Some(artifact) = &record.artifact {
            self.take(artifact)?;
            let descriptor = artifact.manifest.clone();
            self.list.push(OutlinedArtifact { descriptor, owner: None, subject: None, tag: None, listed: false });
        }
        for attached in &record.attached {
            let (tag, listed) = match &attached.by {
                Way::Tag(tag) => (Some(tag.clone()), false),
                Way::Subject => (None, false),
                Way::Index => (None, true),
            };
            if let Err(error) = self.take(&attached.artifact) {
                // Nobody asked for it.
                if listed {
                    continue;
                }
                return Err(error);
            }
            let descriptor = attached.artifact.manifest.clone();
            self.list.push(OutlinedArtifact {
                descriptor,
                owner: Some(*id),
                subject: Some(attached.subject),
                tag,
                listed,
            });
        }
        Ok(())
    }

    fn take(&mut self, artifact: &Artifact) -> Result<()> {
        let bytes = self.bytes + artifact.documents().map(|document| document.size).sum::<u64>();
        if bytes > MAX_BYTES {
            let what = artifact.manifest.digest;
            return Err(ImageError::Invalid(format!(
                "the artifact {what} is too large to be copied: save it and load it there"
            )));
        }
        self.bytes = bytes;
        self.documents.extend(artifact.documents().map(|document| document.digest));
        Ok(())
    }
}

/// Puts the artifacts of an outline beside the store.
pub(super) async fn receive(
    inner: &Arc<Inner>,
    documents: &BTreeMap<Digest, Bytes>,
    outlined: &[OutlinedArtifact],
) -> Result<Incoming> {
    let mut incoming = Incoming { attached: BTreeMap::new(), alone: Vec::new() };
    for OutlinedArtifact { descriptor, owner, subject, tag, listed } in outlined {
        let missing = |digest: &Digest| ImageError::Invalid(format!("the blob {digest} of an artifact is missing"));
        let raw = documents.get(&descriptor.digest).ok_or_else(|| missing(&descriptor.digest))?;
        let artifact = Artifact::read(raw, &descriptor.media_type)?;
        let blobs = artifact.blobs.iter().map(|blob| {
            let bytes = documents.get(&blob.digest).filter(|bytes| bytes.len() as u64 == blob.size);
            bytes.cloned().ok_or_else(|| missing(&blob.digest))
        });
        let blobs: Vec<Bytes> = blobs.collect::<Result<_>>()?;
        let store = inner.store.blobs().clone();
        let staged = run_blocking(move || {
            let stage = |bytes: &Bytes| {
                let mut ingest = store.ingest()?;
                ingest.write_all(bytes)?;
                Ok(ingest.finish(None, None)?)
            };
            blobs.iter().map(stage).collect::<Result<Vec<_>>>()
        });
        let new = NewArtifact { artifact, raw: raw.to_vec(), staged: staged.await? };
        match (owner, subject) {
            (Some(owner), Some(subject)) => {
                let by = match (tag, listed) {
                    (Some(tag), _) => Way::Tag(tag.clone()),
                    (None, true) => Way::Index,
                    (None, false) => Way::Subject,
                };
                incoming.attached.entry(*owner).or_default().push(NewAttached { subject: *subject, by, new });
            }
            _ => incoming.alone.push(new),
        }
    }
    Ok(incoming)
}

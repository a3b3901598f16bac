//! Saving images as an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use skep_types::{Platform, Reference};
use tokio_stream::wrappers::ReceiverStream;

use super::archive::write::{self, OutgoingArtifact, OutgoingImage, OutgoingLayer, OutgoingTarget};
use super::artifact::{Artifact, Way};
use super::bridge::StreamWriter;
use super::catalog::Catalog;
use super::change::{Claim, run_blocking};
use super::target::Target;
use super::{ImageError, Inner, Result};
use crate::model::image::ImageId;

/// The images of these names, as a stream. They are claimed, so what happens to them meanwhile doesn't matter.
pub(super) async fn save(
    inner: &Arc<Inner>,
    names: &[String],
    wished: Option<&Platform>,
) -> Result<(Vec<ImageId>, ReceiverStream<Result<Bytes>>)> {
    let catalog = inner.catalog();
    let wanted = select(&catalog, names, wished)?;
    let ids: Vec<ImageId> = wanted.iter().filter_map(|one| one.images.first().copied()).collect();
    let (claim, targets) = {
        let inner = Arc::clone(inner);
        run_blocking(move || {
            let records = wanted.iter().flat_map(|one| &one.images).filter_map(|id| catalog.image(id));
            let chains: Vec<_> = records.flat_map(|record| record.chain_ids.iter().copied()).collect();
            let claim = Claim::on(&inner, &chains);
            let targets = wanted.into_iter().map(|one| outgoing(&inner, &catalog, one));
            Ok((claim, targets.collect::<Result<Vec<_>>>()?))
        })
        .await?
    };
    let (writer, receiver) = StreamWriter::new();
    let layers = inner.store.layers().clone();
    tokio::task::spawn_blocking(move || {
        let _claim = claim;
        let mut writer = writer;
        let open = |layer: &OutgoingLayer| Ok(Box::new(layers.tar_stream(&layer.chain_id)?) as Box<dyn Read>);
        let result = write::write(&targets, open, &mut writer);
        writer.end(result);
    });
    Ok((ids, ReceiverStream::new(receiver)))
}

/// What goes under the same tags.
struct Wanted {
    images: Vec<ImageId>,
    tags: BTreeSet<Reference>,
}

/// Each image once, in the order of the names, with the tags to write: those that were named; all of a repository that was
/// named without a tag; none for an id. Of several platforms all, or the best for `wished`.
fn select(catalog: &Catalog, names: &[String], wished: Option<&Platform>) -> Result<Vec<Wanted>> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut add = |name: &str, target: &Target, tag: Option<Reference>| -> Result<()> {
        let images = match wished {
            Some(wished) => {
                vec![catalog.best_of(target, wished).ok_or_else(|| ImageError::other_platform(name, wished))?]
            }
            None => target.images.iter().map(|member| member.id).collect(),
        };
        match wanted.iter_mut().find(|known| known.images == images) {
            Some(known) => known.tags.extend(tag),
            None => wanted.push(Wanted { images, tags: tag.into_iter().collect() }),
        }
        Ok(())
    };
    for name in names {
        let reference = name.parse::<Reference>().ok();
        let bare = reference.as_ref().filter(|r| r.tag().is_none() && r.digest().is_none());
        let tags = bare.map(|r| catalog.tags_of_repository(r)).unwrap_or_default();
        if !tags.is_empty() {
            tags.into_iter().try_for_each(|(tag, target)| add(&tag.familiar(), &target, Some(tag.clone())))?;
            continue;
        }
        let target = catalog.target_named(name).map_err(|error| match error {
            ImageError::NotFound(_) => ImageError::NotFound(name.clone()),
            other => other,
        })?;
        // A name comes before an id.
        let tag = reference.filter(|tag| tag.digest().is_none() && catalog.target(tag).is_some());
        add(name, &target, tag.map(|tag| tag.or_latest()))?;
    }
    Ok(wanted)
}

fn outgoing(inner: &Inner, catalog: &Catalog, wanted: Wanted) -> Result<OutgoingTarget> {
    let records: Vec<_> = wanted.images.iter().filter_map(|id| catalog.image(id)).collect();
    let mut attached = Vec::new();
    let mut subjects = BTreeMap::new();
    for record in &records {
        // What an index lists is about that index's manifests, which are made anew.
        let wanted = record.attached.iter().filter(|attached| attached.by != Way::Index);
        for one in wanted {
            let tag = match &one.by {
                Way::Tag(tag) => Some(tag.clone()),
                Way::Subject | Way::Index => None,
            };
            attached.push((outgoing_artifact(inner, &one.artifact)?, tag));
        }
        if record.attached.iter().any(|attached| attached.by != Way::Index) {
            for digest in &record.manifests {
                subjects.insert(*digest, inner.store.blobs().read(digest)?);
            }
        }
    }
    if let Some(artifact) = records.iter().find_map(|record| record.artifact.as_ref()) {
        let artifact = Some(outgoing_artifact(inner, artifact)?);
        return Ok(OutgoingTarget { images: Vec::new(), tags: wanted.tags, artifact, attached, subjects });
    }
    let image = |id: &ImageId| -> Result<OutgoingImage> {
        let record = catalog.image(id).ok_or_else(|| ImageError::NotFound(id.to_string()))?;
        let layers = record.diff_ids.iter().zip(&record.chain_ids).map(|(diff_id, chain_id)| {
            let info = inner.store.layers().get(chain_id)?.ok_or(skep_store::StoreError::NoLayer(*chain_id))?;
            Ok(OutgoingLayer { diff_id: *diff_id, chain_id: *chain_id, size: info.tar_size })
        });
        Ok(OutgoingImage {
            id: *id,
            config: inner.store.blobs().read(id)?,
            platform: record.platform.clone(),
            layers: layers.collect::<Result<_>>()?,
        })
    };
    let images = wanted.images.iter().map(image).collect::<Result<_>>()?;
    Ok(OutgoingTarget { images, tags: wanted.tags, artifact: None, attached, subjects })
}

/// An artifact with its blobs, which stay until it is written.
fn outgoing_artifact(inner: &Inner, artifact: &Artifact) -> Result<OutgoingArtifact> {
    let blobs = artifact.blobs.iter().map(|blob| {
        let staged = inner.store.blobs().stage_again(&blob.digest)?;
        let staged = staged.ok_or(skep_store::StoreError::NoBlob(blob.digest))?;
        Ok((Arc::new(staged), blob.size))
    });
    Ok(OutgoingArtifact {
        descriptor: artifact.manifest.clone(),
        manifest: inner.store.blobs().read(&artifact.manifest.digest)?,
        blobs: blobs.collect::<Result<_>>()?,
    })
}

//! Saving images as an archive.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use skep_types::{Platform, Reference};
use tokio_stream::wrappers::ReceiverStream;

use super::archive::write::{self, OutgoingImage, OutgoingLayer};
use super::bridge::StreamWriter;
use super::catalog::{Catalog, is_id_prefix};
use super::change::{Claim, run_blocking};
use super::{ImageError, Inner, Result, platform};
use crate::model::image::ImageId;

/// The images of these names, as a stream. They are claimed, so what happens to them meanwhile doesn't matter.
pub(super) async fn save(
    inner: &Arc<Inner>,
    names: &[String],
    wished: Option<&Platform>,
) -> Result<(Vec<ImageId>, ReceiverStream<Result<Bytes>>)> {
    let catalog = Arc::clone(&inner.catalog.read());
    let wanted = select(&catalog, names, wished)?;
    let ids: Vec<ImageId> = wanted.iter().map(|(id, _)| *id).collect();
    let (claim, images) = {
        let inner = Arc::clone(inner);
        run_blocking(move || {
            let chains: Vec<_> = ids_of(&catalog, &wanted);
            let claim = Claim::on(&inner, &chains);
            let images: Vec<OutgoingImage> =
                wanted.into_iter().map(|(id, tags)| outgoing(&inner, &catalog, id, tags)).collect::<Result<_>>()?;
            Ok((claim, images))
        })
        .await?
    };
    let (writer, receiver) = StreamWriter::new();
    let layers = inner.store.layers().clone();
    tokio::task::spawn_blocking(move || {
        let _claim = claim;
        let mut writer = writer;
        let open = |layer: &OutgoingLayer| Ok(Box::new(layers.tar_stream(&layer.chain_id)?) as Box<dyn Read>);
        let result = write::write(&images, open, &mut writer);
        writer.end(result);
    });
    Ok((ids, ReceiverStream::new(receiver)))
}

fn ids_of(catalog: &Catalog, wanted: &[(ImageId, BTreeSet<Reference>)]) -> Vec<skep_store::ChainId> {
    let records = wanted.iter().filter_map(|(id, _)| catalog.image(id));
    records.flat_map(|record| record.chain_ids.iter().copied()).collect()
}

/// Each image once, in the order of the names, with the tags to write: those that were named; all of a repository that was
/// named without a tag; none for an id.
fn select(
    catalog: &Catalog,
    names: &[String],
    wished: Option<&Platform>,
) -> Result<Vec<(ImageId, BTreeSet<Reference>)>> {
    let mut wanted: Vec<(ImageId, BTreeSet<Reference>)> = Vec::new();
    let mut add = |id: ImageId, tag: Option<Reference>| match wanted.iter_mut().find(|(known, _)| *known == id) {
        Some((_, tags)) => tags.extend(tag),
        None => wanted.push((id, tag.into_iter().collect())),
    };
    for name in names {
        let reference = name.parse::<Reference>().ok().filter(|r| r.tag().is_none() && r.digest().is_none());
        let tags = reference.map(|r| catalog.tags_of_repository(&r)).unwrap_or_default();
        if !tags.is_empty() {
            tags.into_iter()
                .for_each(|(tag, target)| target.first().into_iter().for_each(|id| add(id, Some(tag.clone()))));
            continue;
        }
        let id = catalog.resolve(name).map_err(|error| match error {
            ImageError::NotFound(_) => ImageError::NotFound(name.clone()),
            other => other,
        })?;
        let tag = name.parse::<Reference>().ok().filter(|_| !is_id_prefix(&id, name));
        add(id, tag.filter(|tag| tag.digest().is_none()));
    }
    for (id, _) in &wanted {
        let record = catalog.image(id).ok_or_else(|| ImageError::NotFound(id.to_string()))?;
        if let Some(wished) = wished.filter(|wished| !platform::suits(wished, &record.platform)) {
            return Err(ImageError::OtherPlatform { name: id.short(), platform: wished.clone() });
        }
    }
    Ok(wanted)
}

fn outgoing(inner: &Inner, catalog: &Catalog, id: ImageId, tags: BTreeSet<Reference>) -> Result<OutgoingImage> {
    let record = catalog.image(&id).ok_or_else(|| ImageError::NotFound(id.to_string()))?;
    let layers = record.diff_ids.iter().zip(&record.chain_ids).map(|(diff_id, chain_id)| {
        let info = inner.store.layers().get(chain_id)?.ok_or(skep_store::StoreError::NoLayer(*chain_id))?;
        Ok(OutgoingLayer { diff_id: *diff_id, chain_id: *chain_id, size: info.tar_size })
    });
    Ok(OutgoingImage {
        id,
        config: inner.store.blobs().read(&id)?,
        platform: record.platform.clone(),
        layers: layers.collect::<Result<_>>()?,
        tags,
    })
}

//! What there is to collect among the images, and taking one of them away for the garbage collection.

use std::sync::Arc;

use skep_store::ChainId;
use tokio::sync::Notify;

use super::remove::{Needs, remove_unused};
use super::{ImageUsers, Images, Result, list, pattern};
use crate::model::gc::GcImage;
use crate::model::image::{ImageFilters, ImageId, PrunedImages};

impl Images {
    /// All images that are not steps of others, with what decides about them. Images of several platforms under one name are one.
    pub(crate) fn inventory(&self, keep: &[String], users: ImageUsers<'_>) -> Vec<GcImage> {
        let catalog = self.inner.catalog();
        let everything = ImageFilters { dangling: Some(false), ..ImageFilters::default() };
        let candidates = list::prunable(&catalog, &everything).into_iter().filter(|id| !catalog.is_secondary(id));
        candidates
            .map(|id| {
                let family = catalog.family(&id);
                let records = family.iter().filter_map(|id| catalog.any_image(id));
                // A kept blob counts like a lowest layer.
                let layers: Vec<(ChainId, u64)> = records
                    .flat_map(|record| {
                        let layers = record.chain_ids.iter().copied().zip(record.layer_sizes.iter().copied());
                        layers.chain(record.kept_blobs().map(|(digest, size)| (ChainId::of(None, &digest), size)))
                    })
                    .collect();
                let (tags, digests) = catalog.names_of(&id);
                let labels = catalog.image(&id).and_then(|record| record.labels.clone()).unwrap_or_default();
                let kept_by = keep.iter().find(|rule| match rule.strip_prefix("label=") {
                    Some(label) => match label.split_once('=') {
                        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
                        None => labels.contains_key(label),
                    },
                    None => tags.iter().any(|tag| named(rule, tag)),
                });
                GcImage {
                    id,
                    kept_by: kept_by.cloned(),
                    tags,
                    digests,
                    containers: family.iter().map(|id| users(id).len()).sum(),
                    held: family.iter().any(|id| self.inner.holds.is_held(id)),
                    last_used: family.iter().map(|id| self.inner.uses.last(id)).max().unwrap_or_default(),
                    layers,
                }
            })
            .collect()
    }

    /// Removes an image for the garbage collection, if nothing has come to need it since it was chosen: no container, and no tag
    /// that it didn't have then.
    pub(crate) async fn collect(&self, chosen: &GcImage, users: ImageUsers<'_>) -> Result<Option<PrunedImages>> {
        let mut writer = self.inner.write().await;
        let catalog = &writer.draft.catalog;
        let inner = Arc::clone(&self.inner);
        let held = move |id: &ImageId| inner.holds.is_held(id);
        let family = catalog.family(&chosen.id);
        let needed =
            family.iter().any(|id| held(id) || !users(id).is_empty() || self.inner.uses.last(id) > chosen.last_used);
        if needed || catalog.image(&chosen.id).is_none() || catalog.names_of(&chosen.id).0 != chosen.tags {
            return Ok(None);
        }
        let removed = remove_unused(&mut writer.draft, &chosen.id, &Needs { users, held: &held });
        let before = self.inner.catalog();
        let freed = writer.commit().await?;
        self.inner.tell_removed(&before, &removed.events);
        Ok(Some(PrunedImages::new(removed.list, freed)))
    }

    /// Rung when images came or went.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.inner.changed)
    }

    /// A container of the image came or went.
    pub(crate) fn touch(&self, id: ImageId) {
        self.inner.uses.touch(id);
    }

    /// Stores when images were last used. Blocks.
    pub(crate) fn store_uses(&self) -> Result<()> {
        Ok(self.inner.uses.store(self.inner.store.db(), &self.inner.catalog())?)
    }
}

/// Whether a rule like `registry.example/*` means the image of a tag, as the filter `reference` does.
fn named(rule: &str, tag: &str) -> bool {
    let name = tag.rsplit_once(':').map_or(tag, |(name, _)| name);
    // Rules were checked when the daemon started.
    pattern::matches(rule, tag).unwrap_or(true) || pattern::matches(rule, name).unwrap_or(true)
}

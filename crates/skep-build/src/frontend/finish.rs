//! A result gets its configuration.

use std::any::Any;

use skep_types::{Digest, Platform, Reference};

use crate::builder::BuiltImage;
use crate::error::Result;
use crate::image::{History, ImageConfig, complete_history};
use crate::solve::{LayerMade, Value};
use crate::worker::Worker;

use super::Frontend;

/// What the solver made for a platform.
pub(super) struct Finished<'v> {
    pub(super) platform: Platform,
    pub(super) image: ImageConfig,
    pub(super) base: Option<(Reference, Option<Digest>)>,
    pub(super) value: &'v Value,
    /// What the last stage begins with.
    pub(super) below: &'v Value,
}

impl<W: Worker> Frontend<'_, W> {
    pub(super) async fn finish(&self, finished: Finished<'_>) -> Result<BuiltImage> {
        let Finished { platform, mut image, base, value, below } = finished;
        let epoch = self.request.epoch()?;
        let (mut stack, mut layers) = (value.stack()?, value.layers.to_vec());
        let mut guards: Vec<Box<dyn Any + Send + Sync>> =
            value.held().into_iter().map(|guard| Box::new(guard) as _).collect();
        let new = layers.len().saturating_sub(below.layers.len());
        if self.request.squash && new > 1 {
            let layer = self.solver.worker.squash(stack, below.stack()?).await?;
            layers.truncate(below.layers.len());
            layers.push(LayerMade { diff_id: layer.diff_id, created: Some(chrono::Utc::now()) });
            stack = Some(layer.stack);
            guards.extend(self.solver.worker.hold(stack).await?);
            squash_history(&mut image, below.layers.len(), new);
        }
        image.rootfs.kind = "layers".to_owned();
        image.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let made: Vec<_> = layers.iter().map(|layer| layer.created.map(|created| epoch.unwrap_or(created))).collect();
        complete_history(&mut image, &made);
        let last = image.history.iter().rev().find_map(|step| step.created);
        image.created = epoch.map(Into::into).or(last);
        if self.is_inline()
            && let Some(cache) = self.solver.cache.inline(&image.rootfs.diff_ids, &value.records)
        {
            image.others.insert(crate::cache::FIELD.to_owned(), cache.into());
        }
        let config = image.to_bytes()?;
        let diff_ids = image.rootfs.diff_ids;
        Ok(BuiltImage {
            platform,
            stack,
            diff_ids,
            base_layers: below.layers.len(),
            config,
            base,
            attestations: Vec::new(),
            intermediate: Vec::new(),
            guard: guards,
        })
    }
}

/// The steps whose layers were merged have none of their own any more; one at the end has it.
fn squash_history(image: &mut ImageConfig, below: usize, new: usize) {
    let with_layers = image.history.iter_mut().filter(|step| !step.empty_layer);
    with_layers.skip(below).for_each(|step| step.empty_layer = true);
    let comment = format!("merge of {new} layers");
    image.history.push(History { comment, ..History::default() });
}

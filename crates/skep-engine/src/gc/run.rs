//! Doing what was planned, and watching for when it is needed.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::time::Instant;

use super::plan::{Inventory, plan};
use crate::engine::{Inner, blocking};
use crate::model::event::EventType;
use crate::model::gc::{DiskSpace, GcPlan, GcReport, GcStep, GcTarget};
use crate::model::image::ImageId;
use crate::{Engine, Error, Result};

/// Time between two rounds of upkeep that nothing asked for.
const UPKEEP: Duration = Duration::from_secs(600);

/// Looks at the free space now and then, and whenever images came or went, until the engine closes.
pub(crate) async fn watch(inner: Arc<Inner>) {
    let (closing, changed) = (inner.closing(), inner.images.changed());
    let interval = inner.config.gc.interval;
    let engine = Engine::from_inner(inner);
    let mut next_upkeep = Instant::now() + UPKEEP;
    loop {
        tokio::select! {
            () = closing.cancelled() => break,
            () = changed.notified() => {}
            () = tokio::time::sleep(interval) => {}
        }
        let images = engine.inner.images.clone();
        if let Err(error) = blocking(move || Ok(images.forget_arrivals()?)).await {
            tracing::warn!(%error, "letting go of layers whose image has not come");
        }
        if engine.inner.builds.take_built()
            && let Err(error) = engine.collect_after_builds().await
        {
            tracing::warn!(%error, "collecting the cache of builds");
        }
        if engine.inner.config.gc.enabled
            && let Err(error) = engine.collect_if_low().await
        {
            tracing::warn!(%error, "collecting garbage");
        }
        if Instant::now() >= next_upkeep {
            next_upkeep = Instant::now() + UPKEEP;
            if let Err(error) = engine.upkeep().await {
                tracing::warn!(%error, "upkeep of the data root");
            }
        }
    }
    let images = engine.inner.images.clone();
    if let Err(error) = blocking(move || Ok(images.store_uses()?)).await {
        tracing::warn!(%error, "storing when images were last used");
    }
}

impl Engine {
    /// Makes room up to the high mark, whether or not the low one is crossed, and does what upkeep there is.
    pub async fn collect_garbage(&self) -> Result<GcReport> {
        let mut report = self.collect_to_high().await?;
        self.upkeep().await?;
        let store = self.inner.storage.store().clone();
        report.compacted =
            blocking(move || store.db().compact().map_err(|e| Error::system("compacting the database", e))).await?;
        Ok(report)
    }

    /// What a collection would find, and in which order it would take it. Removes nothing.
    pub async fn preview_garbage(&self) -> Result<GcReport> {
        let before = self.disk_space().await?;
        let GcPlan { steps, kept } = self.plan_collection().await?;
        let settings = &self.inner.config.gc;
        let (low, high) = (settings.low.bytes(before.total), settings.high_bytes(before.total));
        Ok(GcReport { before, after: before, low, high, steps, kept, compacted: 0 })
    }

    async fn collect_after_builds(&self) -> Result<()> {
        let disk = self.disk_space().await?;
        self.collect_builds(disk).await
    }

    async fn collect_if_low(&self) -> Result<()> {
        let space = self.disk_space().await?;
        let low = self.inner.config.gc.low.bytes(space.total);
        if space.free >= low {
            return Ok(());
        }
        let report = self.collect_to_high().await?;
        if report.steps.is_empty() {
            tracing::debug!(free = report.after.free, low, "little space is left, and nothing may go");
            return Ok(());
        }
        let freed = report.after.free.saturating_sub(report.before.free);
        let (free, high) = (report.after.free, report.high);
        tracing::info!(
            freed,
            free,
            low,
            high,
            removed = report.steps.len(),
            "collected garbage: little space was left"
        );
        Ok(())
    }

    async fn collect_to_high(&self) -> Result<GcReport> {
        let mut report = self.preview_garbage().await?;
        let mut gone = Vec::new();
        let planned = std::mem::take(&mut report.steps);
        for step in planned {
            if report.after.free >= report.high {
                break;
            }
            if self.take(&step).await? {
                let (bytes, reason) = (step.bytes, &step.reason);
                tracing::info!(what = %name(&step), bytes, reason, "collected");
                gone.push(step);
            }
            report.after = self.disk_space().await?;
        }
        if !gone.is_empty() {
            let freed = report.after.free.saturating_sub(report.before.free);
            let attributes = [("reclaimed", freed.to_string()), ("trigger", "free-space".to_owned())];
            let attributes = attributes.map(|(key, value)| (key.to_owned(), value)).into();
            self.inner.events.emit(EventType::Image, "prune", "", attributes);
        }
        report.steps = gone;
        Ok(report)
    }

    /// Takes one thing away, at once and in full; tells whether it went.
    async fn take(&self, step: &GcStep) -> Result<bool> {
        let went = match &step.target {
            GcTarget::Trash => true,
            GcTarget::Partial(digest) => {
                let (store, digest) = (self.inner.storage.store().clone(), *digest);
                let remove = move || store.partials().remove(&digest);
                blocking(move || remove().map_err(|e| Error::system("deleting a partial download", e))).await?
            }
            GcTarget::BuildCache => {
                let high = self.inner.config.gc.high_bytes(self.disk_space().await?.total);
                self.collect_builds_until(high).await?
            }
            GcTarget::Image(image) => {
                let users = |id: &ImageId| self.users_of(id);
                self.inner.images.collect(image, &users).await?.is_some()
            }
        };
        let storage = self.inner.storage.clone();
        blocking(move || {
            storage.empty_trash();
            Ok(())
        })
        .await?;
        Ok(went)
    }

    async fn plan_collection(&self) -> Result<GcPlan> {
        let engine = self.clone();
        let builds = self.idle_builds().await?;
        blocking(move || {
            let store = engine.inner.storage.store();
            let failed = |error| Error::system("looking for garbage", error);
            let settings = &engine.inner.config.gc;
            let found = Inventory {
                trash: store.trash().disk_usage().map_err(failed)?,
                partials: store.partials().list().map_err(failed)?,
                builds,
                images: engine.inner.images.inventory(&settings.keep, &|id| engine.users_of(id)),
            };
            Ok(plan(found, settings, Utc::now()))
        })
        .await
    }

    /// What costs little and is better done now and then: last uses are stored, old partial downloads go, directories of mended
    /// layers go once nothing runs on them, the database is compacted when nothing goes on.
    async fn upkeep(&self) -> Result<()> {
        let engine = self.clone();
        blocking(move || {
            engine.inner.images.store_uses()?;
            let store = engine.inner.storage.store();
            let failed = |error| Error::system("upkeep of the data root", error);
            store.expire_partials().map_err(failed)?;
            let running = engine.inner.storage.running_layers().map_err(failed)?;
            store.layers().release_retired(&|chain| running.contains(chain)).map_err(failed)?;
            if store.layers().is_idle() {
                store.db().compact_if_worth().map_err(|error| failed(error.into()))?;
            }
            Ok(())
        })
        .await
    }

    async fn disk_space(&self) -> Result<DiskSpace> {
        let root = self.inner.config.data_root.clone();
        blocking(move || {
            let found = rustix::fs::statvfs(&root).map_err(|e| Error::system("looking at the free space", e))?;
            // As `df` has it: what is kept back for root is not free.
            Ok(DiskSpace { total: found.f_blocks * found.f_frsize, free: found.f_bavail * found.f_frsize })
        })
        .await
    }
}

fn name(step: &GcStep) -> String {
    match &step.target {
        GcTarget::Trash => "trash".to_owned(),
        GcTarget::BuildCache => "build cache".to_owned(),
        GcTarget::Partial(digest) => format!("partial download {}", digest.short()),
        GcTarget::Image(image) => format!("image {} {}", image.id.short(), image.tags.join(" ")).trim_end().to_owned(),
    }
}

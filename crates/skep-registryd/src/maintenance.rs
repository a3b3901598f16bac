//! What a running registry does by itself, from time to time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::collect::Collection;
use crate::http::server::Shared;

/// How a running registry keeps its house.
#[derive(Debug, Clone, Default)]
pub struct Maintenance {
    /// How often garbage is collected; never without.
    pub interval: Option<Duration>,
    /// How.
    pub collection: Collection,
}

/// Collects garbage until the registry stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let Some(interval) = shared.maintenance.interval else { return };
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = shared.stop.cancelled() => return,
        }
        let started = Instant::now();
        let retention = shared.retention.read().clone();
        match shared.content.collect(&shared.maintenance.collection, &retention).await {
            Ok(report) => {
                shared.metrics.collected(&report);
                for damage in &report.missing {
                    tracing::error!(digest = damage, "the content is gone from the storage");
                }
                let (tags, manifests, blobs) = (report.tags.len(), report.manifests.len(), report.blobs.len());
                let milliseconds = started.elapsed().as_millis();
                let (contents, uploads, bytes) = (report.contents, report.uploads, report.bytes);
                tracing::info!(tags, manifests, blobs, contents, uploads, bytes, milliseconds, "garbage collected");
            }
            Err(error) => tracing::error!(%error, "collecting garbage"),
        }
    }
}

//! Directories of the client: kept between builds, so that only what changed is sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::Utc;
use rustix::fs::{Mode, OFlags};
use skep_build::BuildError;
use skep_build::event::{BuildEvent, Status};
use skep_build::graph::LocalSource;
use skep_build::worker::{Context, Dir, Tree};
use skep_registry::digest_of;

use super::super::error::{cancelled, failed};
use crate::engine::Inner;

/// Bytes between two reports.
const REPORT: u64 = 256 * 1024;

/// Brings a directory of the client here.
pub(in crate::build) async fn bring(
    engine: &Arc<Inner>,
    source: &LocalSource,
    context: &Context,
) -> Result<Tree, BuildError> {
    let key = format!("{:?} {:?} {:?}", context.services.shared_key(&source.name), source.name, source.part);
    let name = &digest_of(key.as_bytes()).hex()[..32];
    let slot = engine.builds.contexts.take(&engine.config.data_root.join("build/context"), name)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let into = rustix::fs::open(&slot.path, flags, Mode::empty());
    let into = into.map_err(|error| failed("open the directory of a context")(error.into()))?;
    let begun = Utc::now();
    let status = |current, ended: bool| {
        BuildEvent::Status(Status {
            id: format!("transferring {}:", source.name),
            vertex: context.vertex,
            current,
            total: 0,
            started: Some(begun),
            completed: ended.then(Utc::now),
        })
    };
    let told = AtomicU64::new(0);
    let tell = |bytes: u64| {
        let before = told.load(Ordering::Relaxed);
        if bytes >= before + REPORT {
            told.store(bytes, Ordering::Relaxed);
            // A report that the listener has no room for is no loss: the next one says more.
            let _ = context.events.try_send(status(bytes, false));
        }
    };
    let synced = tokio::select! {
        synced = context.services.sync(source, into, &tell) => synced?,
        () = context.cancel.cancelled() => return Err(cancelled()),
    };
    let _ = context.events.send(status(synced.bytes, true)).await;
    Ok(Tree::Dir(Arc::new(Dir { path: slot.path.clone(), identity: None, guard: Box::new(slot) })))
}

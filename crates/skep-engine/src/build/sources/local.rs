//! Directories of the client: kept between builds, so that only what changed is sent again.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::Utc;
use rustix::fs::{Mode, OFlags};
use skep_build::BuildError;
use skep_build::event::{BuildEvent, Status};
use skep_build::graph::LocalSource;
use skep_build::worker::{Context, Dir, Tree};
use skep_registry::digest_of;

use super::super::error::{blocking, cancelled, failed};
use super::slots::make_room;
use crate::engine::Inner;

/// Bytes between two reports.
const REPORT: u64 = 256 * 1024;

/// What keeps a directory while it is needed.
type Guard = Box<dyn Any + Send + Sync>;

/// Brings a directory of the client here.
pub(in crate::build) async fn bring(
    engine: &Arc<Inner>,
    source: &LocalSource,
    context: &Context,
) -> Result<Tree, BuildError> {
    let (path, guard) = room(engine, source, context).await?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let into = rustix::fs::open(&path, flags, Mode::empty());
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
    Ok(Tree::Dir(Arc::new(Dir { path, identity: None, guard })))
}

/// Where the directory was left by the last build, or an empty place that is there for this build alone.
async fn room(engine: &Inner, source: &LocalSource, context: &Context) -> Result<(PathBuf, Guard), BuildError> {
    let (top, contexts) = (engine.config.data_root.join("build/context"), engine.builds.contexts.clone());
    let key = context.services.shared_key(&source.name).await?;
    let name = key.map(|key| digest_of(format!("{key:?} {:?} {:?}", source.name, source.part).as_bytes()).hex());
    // A directory may have to wait for the disk.
    blocking(move || {
        if let Some(name) = name {
            let slot = contexts.take(&top, &name[..32])?;
            return Ok((slot.path.clone(), Box::new(slot) as Guard));
        }
        let slot = contexts.take(&top, "once")?;
        let path = slot.path.clone();
        // What a crash may have left.
        make_room(&path).map_err(failed("make room for a context"))?;
        Ok((path, Box::new(slot.once()) as Guard))
    })
    .await
}

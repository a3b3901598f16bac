//! Network namespaces of steps, plugged in ahead of time: plugging one in takes the kernel longer than all the rest of a step's start.
//!
//! A step without `CAP_NET_ADMIN` can't change its namespace, and all its processes are gone when it ends: the next step may have it.
//! They are kept while builds go on and for a while after.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::engine::Inner;
use crate::networks::StepNetwork;

/// How many are kept, and how long after they were last used.
const KEPT: usize = 4;
const IDLE: Duration = Duration::from_secs(10);

/// Namespaces that wait for a step.
#[derive(Default)]
pub(crate) struct Sandboxes {
    ready: Mutex<Vec<StepNetwork>>,
    /// Counts takings and givings back.
    moves: AtomicU64,
}

/// Takes a plugged namespace, and has another one made ready if it was the last. Blocking.
pub(super) fn take(engine: &Arc<Inner>) -> crate::Result<StepNetwork> {
    let pool = &engine.builds.sandboxes;
    wait_for_the_next(engine);
    let (found, was_last) = {
        let mut ready = pool.ready.lock();
        let found = ready.pop();
        (found, ready.is_empty())
    };
    if was_last {
        let engine = Arc::clone(engine);
        engine.tasks.clone().spawn_blocking(move || match engine.networks.plug_step() {
            Ok(network) => keep(&engine, network),
            Err(error) => tracing::warn!(%error, "making a namespace ready for the next step of a build"),
        });
    }
    found.map_or_else(|| engine.networks.plug_step(), Ok)
}

/// Takes a namespace back that its step couldn't change. May block for some 20 ms.
pub(super) fn give_back(engine: &Arc<Inner>, network: StepNetwork) {
    if network.is_plugged() {
        keep(engine, network);
    }
}

fn keep(engine: &Arc<Inner>, network: StepNetwork) {
    let pool = &engine.builds.sandboxes;
    wait_for_the_next(engine);
    let over = {
        let mut ready = pool.ready.lock();
        if ready.len() < KEPT && !engine.closing().is_cancelled() {
            ready.push(network);
            None
        } else {
            Some(network)
        }
    };
    if let Some(network) = over {
        unplug(engine, network);
    }
}

/// Whoever moved last sees that nothing is kept for long: what was taken need not come back.
fn wait_for_the_next(engine: &Arc<Inner>) {
    let now = engine.builds.sandboxes.moves.fetch_add(1, Ordering::Relaxed) + 1;
    let waiting = Arc::clone(engine);
    engine.tasks.spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(IDLE) => {}
            () = waiting.closing().cancelled_owned() => {}
        }
        let pool = &waiting.builds.sandboxes;
        if pool.moves.load(Ordering::Relaxed) == now || waiting.closing().is_cancelled() {
            drain(&waiting).await;
        }
    });
}

/// Unplugs all that wait.
pub(super) async fn drain(engine: &Arc<Inner>) {
    let ready = std::mem::take(&mut *engine.builds.sandboxes.ready.lock());
    if ready.is_empty() {
        return;
    }
    let engine = Arc::clone(engine);
    // A worker that broke down has said so; the kernel unplugs when the namespaces go.
    let _ = tokio::task::spawn_blocking(move || ready.into_iter().for_each(|network| unplug(&engine, network))).await;
}

fn unplug(engine: &Inner, network: StepNetwork) {
    if let Err(error) = engine.networks.unplug_step(network) {
        tracing::warn!(%error, "unplugging a step of a build");
    }
}

//! `RUN --mount=type=ssh`: a socket in the step that leads to an agent of the client.

use std::path::Path;
use std::sync::Arc;

use skep_build::Services;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Connections to one agent at a time.
const MOST: usize = 64;

/// Listens at `path` and joins who connects to the client's agent `id`, as long as the result lives. Owner and mode are the caller's to
/// set.
pub(super) fn serve(
    tasks: &TaskTracker,
    path: &Path,
    services: Arc<dyn Services>,
    id: String,
) -> std::io::Result<DropGuard> {
    use std::os::fd::AsRawFd;
    // Through the directory's descriptor: the path of a socket may have only 107 bytes.
    let (dir, name) = (path.parent().unwrap_or(path), path.file_name().unwrap_or_default());
    let dir = std::fs::File::open(dir)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), name.to_string_lossy()))?;
    let end = CancellationToken::new();
    let ended = end.clone();
    tasks.spawn(async move {
        let mut joined = JoinSet::new();
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                Some(_) = joined.join_next() => {}
                accepted = listener.accept(), if joined.len() < MOST => {
                    let Ok((mut stream, _)) = accepted else { continue };
                    let (services, id) = (Arc::clone(&services), id.clone());
                    joined.spawn(async move {
                        match services.agent(&id).await {
                            // Either end may close it whenever it likes.
                            Ok(mut agent) => drop(tokio::io::copy_bidirectional(&mut stream, &mut agent).await),
                            Err(error) => tracing::debug!(%error, id, "an agent of the client can't be reached"),
                        }
                    });
                }
            }
        }
    });
    Ok(end.drop_guard())
}

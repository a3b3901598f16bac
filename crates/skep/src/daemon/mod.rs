//! The daemon: opens the engine, serves its API, ends in good order. Containers stay as they are when it ends.

mod file;
mod gc;
mod networks;
mod notify;
mod registries;
mod remap;
pub(crate) mod settings;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skep_api::Listener;
use skep_engine::Engine;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::Failure;
use settings::{Address, Settings};

/// Runs the daemon to its end.
pub(crate) fn run(settings: Settings) -> Result<(), Failure> {
    // Before anything opens files: the numbers of passed sockets are fixed.
    let inherited = inherited_sockets()?;
    let filter = EnvFilter::try_new(&settings.log_level)
        .map_err(|_| Failure::message(format!("invalid logging level: {}", settings.log_level)))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_stack_size(2 << 20)
        .enable_all()
        .build()?;
    let pidfile = runtime.block_on(serve(settings, inherited))?;
    // The last who use the engine are gone with the runtime, and with them the lock of its database. Whoever waits for the PID file's end
    // may start the next daemon then.
    drop(runtime);
    drop(pidfile);
    Ok(())
}

fn inherited_sockets() -> Result<Vec<std::os::fd::OwnedFd>, Failure> {
    let variable = |name: &str| std::env::var(name).ok();
    let count = skep_api::inherited_count(
        variable("LISTEN_PID").as_deref(),
        variable("LISTEN_FDS").as_deref(),
        std::process::id(),
    );
    skep_sys::inherited::take(count)
        .map_err(|e| Failure::message(format!("taking over {count} sockets of the service manager: {e}")))
}

/// Serves until it is told to end. Returns what says that the daemon is there.
async fn serve(settings: Settings, inherited: Vec<std::os::fd::OwnedFd>) -> Result<Pidfile, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // The engine first: it holds the data root, so that a second daemon fails before it takes the first one's socket.
    let engine = Engine::open(settings.engine.clone())
        .await
        .map_err(|error| Failure::message(format!("failed to start daemon: {error}")))?;
    let listeners = listeners(&settings, inherited).await?;
    let pidfile = Pidfile::write(&settings.pidfile)?;
    notify::send("READY=1");
    tracing::info!(data_root = %settings.engine.data_root.display(), "the engine is ready");
    let shutdown = async {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => tracing::info!("settings are read at the start: restart the daemon, containers go on meanwhile"),
            }
        }
    };
    skep_api::serve(engine.clone(), listeners, settings.idle, shutdown).await;
    notify::send("STOPPING=1");
    engine.close().await;
    Ok(pidfile)
}

async fn listeners(settings: &Settings, mut inherited: Vec<std::os::fd::OwnedFd>) -> Result<Vec<Listener>, Failure> {
    let failed = |error: skep_api::ListenError| Failure::message(format!("failed to load listeners: {error}"));
    let tls = match &settings.tls {
        Some(files) => Some(skep_api::tls_config(files).map_err(|error| Failure::message(error.to_string()))?),
        None => None,
    };
    let mut listeners = Vec::new();
    for address in &settings.addresses {
        match address {
            Address::Unix(path) => listeners.push(Listener::unix(path, &settings.group).map_err(failed)?),
            Address::Tcp(address) => {
                if tls.is_none() && !address.ip().is_loopback() {
                    tracing::warn!(%address, "the API is served without TLS: whoever reaches this address is root here");
                }
                let listener = Listener::tcp(*address, tls.as_ref().map(Arc::clone)).await.map_err(failed)?;
                listeners.push(listener);
            }
            Address::Inherited => {
                let sockets = std::mem::take(&mut inherited);
                if sockets.is_empty() {
                    return Err(Failure::message(
                        "failed to load listeners: no sockets found via socket activation: make sure the service was started by systemd",
                    ));
                }
                listeners.extend(Listener::inherited(sockets, tls.as_ref().map(Arc::clone)).map_err(failed)?);
            }
        }
    }
    Ok(listeners)
}

/// The file with the process id; gone when the daemon ends.
struct Pidfile(PathBuf);

impl Pidfile {
    fn write(path: &Path) -> Result<Self, Failure> {
        skep_fs::atomic::write_file(path, format!("{}\n", std::process::id()).as_bytes(), 0o644)
            .map_err(|error| Failure::message(format!("failed to write the PID file {}: {error}", path.display())))?;
        Ok(Pidfile(path.to_owned()))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // It may be gone with the exec root; nobody needs it then.
        let _ = std::fs::remove_file(&self.0);
    }
}

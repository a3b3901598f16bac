//! Accepting clients, and stopping.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Authority;
use crate::cache::Cache;
use crate::collect::Retention;
use crate::content::{Content, Parts};
use crate::http::connection::{self, Peer};
use crate::maintenance::Maintenance;
use crate::metrics::Metrics;
use crate::tls::Identity;

/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// What all connections of a server share.
pub(crate) struct Shared {
    pub(crate) content: Arc<Content>,
    pub(crate) access: Access,
    pub(crate) authority: Arc<Authority>,
    pub(crate) metrics: Metrics,
    pub(crate) parts: Parts,
    /// What is a copy of other registries.
    pub(crate) cache: Option<Arc<Cache>>,
    pub(crate) maintenance: Maintenance,
    /// Which tags stay.
    pub(crate) retention: RwLock<Retention>,
    /// Plain HTTP without.
    pub(crate) identity: Option<Arc<Identity>>,
    /// No new requests.
    pub(crate) stop: CancellationToken,
    /// Owns every connection and every change under way.
    pub(crate) tasks: TaskTracker,
}

/// What clients may do at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Reading and changing.
    #[default]
    ReadWrite,
    /// Nothing but reading.
    ReadOnly,
}

/// A socket that accepts clients.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) offer: Offer,
}

/// What can be had through a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Everything.
    All,
    /// Everything but the metrics, which have a listener of their own.
    Registry,
    /// Metrics and health, without authentication.
    Metrics,
}

/// Serves until `shutdown`; then requests that run may end, for so long as `grace`.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    grace: Duration,
    shutdown: impl Future<Output = ()> + Send,
) {
    let acceptors = TaskTracker::new();
    for listener in listeners {
        acceptors.spawn(accept(shared.clone(), listener, grace));
    }
    acceptors.close();
    shutdown.await;
    shared.stop.cancel();
    acceptors.wait().await;
    shared.tasks.close();
    if tokio::time::timeout(grace, shared.tasks.wait()).await.is_err() {
        tracing::info!(requests = shared.tasks.len(), "requests still run, stopping without them");
    }
}

async fn accept(shared: Arc<Shared>, listener: Listener, grace: Duration) {
    loop {
        let accepted = tokio::select! {
            accepted = accept_one(&shared, &listener, grace) => accepted,
            () = shared.stop.cancelled() => return,
        };
        if let Err(error) = accepted {
            // Out of descriptors, most likely: waiting is all that helps.
            tracing::warn!(%error, "can't accept a client");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn accept_one(shared: &Arc<Shared>, listener: &Listener, grace: Duration) -> io::Result<()> {
    let (stream, peer) = listener.socket.accept().await?;
    // A client that is gone already says so when it is read from.
    let _ = stream.set_nodelay(true);
    let (owner, tls) = (shared.clone(), listener.identity.as_ref().map(|identity| identity.acceptor()));
    let from = Peer { address: peer, https: tls.is_some(), offer: listener.offer };
    shared.tasks.spawn(cut_off(shared.clone(), grace, async move {
        match tls {
            None => connection::serve(owner, stream, from).await,
            Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                Ok(Ok(stream)) => connection::serve(owner, stream, from).await,
                Ok(Err(error)) => tracing::info!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::info!(%peer, "TLS handshake took too long"),
            },
        }
    }));
    Ok(())
}

/// Ends a connection that goes on after the grace.
async fn cut_off(shared: Arc<Shared>, grace: Duration, connection: impl Future<Output = ()>) {
    let overdue = async {
        shared.stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        () = connection => {}
        () = overdue => {}
    }
}

//! Accepting clients, and stopping.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use skep_engine::Engine;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::buildkit::BuildKit;
use crate::http::connection;
use crate::http::hijack::Peer;
use crate::http::router::Router;
use crate::listen::{Listener, Socket};

/// How long requests may go on after the server was told to stop; attached clients are cut off right away.
const GRACE: Duration = Duration::from_secs(5);

/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// What all connections of a server share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) builds: Arc<BuildKit>,
    pub(crate) router: Router,
    pub(crate) headers: http::HeaderMap,
    /// No new requests.
    pub(crate) stop: CancellationToken,
    /// No hijacked connections and endless answers any more.
    pub(crate) abort: CancellationToken,
    /// Owns every connection, every change under way and every hijacked connection.
    pub(crate) tasks: TaskTracker,
}

pub(crate) async fn serve(
    engine: Engine,
    builds: Arc<BuildKit>,
    router: Router,
    listeners: Vec<Listener>,
    idle: Option<Duration>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let shared = Arc::new(Shared {
        engine,
        builds,
        router,
        headers: connection::common_headers(),
        stop: CancellationToken::new(),
        abort: CancellationToken::new(),
        tasks: TaskTracker::new(),
    });
    let acceptors = TaskTracker::new();
    for listener in listeners {
        acceptors.spawn(accept(shared.clone(), listener));
    }
    acceptors.close();
    tokio::select! {
        () = shutdown => {}
        () = idle_for(&shared, idle) => tracing::info!("nothing to do, stopping"),
    }
    shared.stop.cancel();
    shared.abort.cancel();
    acceptors.wait().await;
    shared.tasks.close();
    if tokio::time::timeout(GRACE, shared.tasks.wait()).await.is_err() {
        tracing::info!(requests = shared.tasks.len(), "requests still run, stopping without them");
    }
}

/// Ready once nobody was connected and nothing ran for so long; never without a duration.
async fn idle_for(shared: &Shared, idle: Option<Duration>) {
    const BEAT: Duration = Duration::from_secs(1);
    let Some(idle) = idle else { return std::future::pending().await };
    let mut quiet = Duration::ZERO;
    while quiet < idle {
        tokio::time::sleep(BEAT).await;
        let busy = !shared.tasks.is_empty() || shared.engine.running_count() > 0;
        quiet = if busy { Duration::ZERO } else { quiet + BEAT };
    }
}

async fn accept(shared: Arc<Shared>, listener: Listener) {
    loop {
        let accepted = tokio::select! {
            accepted = accept_one(&shared, &listener) => accepted,
            () = shared.stop.cancelled() => return,
        };
        if let Err(error) = accepted {
            // Out of descriptors, most likely: waiting is all that helps.
            tracing::warn!(%error, "can't accept a client");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn accept_one(shared: &Arc<Shared>, listener: &Listener) -> io::Result<()> {
    match &listener.socket {
        Socket::Unix(socket) => {
            let (stream, _) = socket.accept().await?;
            let peer = Peer::of(&stream)?;
            shared.tasks.spawn(cut_off(shared.clone(), connection::serve(shared.clone(), stream, peer)));
        }
        Socket::Tcp(socket, tls) => {
            let (stream, _) = socket.accept().await?;
            stream.set_nodelay(true)?;
            let peer = Peer::of(&stream)?;
            let (owner, tls) = (shared.clone(), tls.clone());
            shared.tasks.spawn(cut_off(shared.clone(), async move {
                match tls {
                    None => connection::serve(owner, stream, peer).await,
                    Some(tls) => match handshake(&tls, stream).await {
                        Ok(stream) => connection::serve(owner, stream, peer).await,
                        Err(error) => tracing::info!(%error, "TLS handshake failed"),
                    },
                }
            }));
        }
    }
    Ok(())
}

/// Talks TLS, or tells a client that doesn't what Go's server tells it.
async fn handshake(tls: &TlsAcceptor, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    /// The type of a TLS record that begins a handshake (RFC 8446, section 5.1).
    const HANDSHAKE: u8 = 22;
    const PLAIN: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    let accepted = async {
        let mut first = [HANDSHAKE];
        stream.peek(&mut first).await?;
        if first != [HANDSHAKE] {
            stream.write_all(PLAIN).await?;
            stream.shutdown().await?;
            // Closed with bytes unread, it would be reset, and the client would not see the answer.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
            return Err(io::Error::other("the client does not speak TLS"));
        }
        tls.accept(stream).await
    };
    tokio::time::timeout(HANDSHAKE_TIME, accepted).await?
}

/// Ends a connection that goes on after the grace.
async fn cut_off(shared: Arc<Shared>, connection: impl Future<Output = ()>) {
    let overdue = async {
        shared.stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = connection => {}
        () = overdue => {}
    }
}

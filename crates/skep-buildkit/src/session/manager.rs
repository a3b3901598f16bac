//! Who is connected.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::grpc::Channel;
use crate::session::{Announcement, Session};

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The request has no id.
    #[error("session requires an id: the header X-Docker-Expose-Session-Uuid is missing")]
    NoId,
    /// Two clients chose the same id.
    #[error("session {0} already exists")]
    Exists(String),
    /// The client didn't come.
    #[error("no active session for {0}: context deadline exceeded")]
    Missing(String),
    /// The client doesn't speak HTTP/2.
    #[error("session {0}: {1}")]
    Broken(String, String),
}

/// All clients that are connected.
#[derive(Clone)]
pub struct Sessions {
    sessions: Arc<Mutex<HashMap<String, Option<Arc<Session>>>>>,
    changed: watch::Sender<()>,
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions { sessions: Arc::default(), changed: watch::Sender::new(()) }
    }
}

impl Sessions {
    /// Takes the id of a session, so that a second client with it can be refused before its connection is taken over.
    pub fn reserve(&self, announcement: Announcement) -> Result<Place, SessionError> {
        let id = announcement.id.clone();
        if id.is_empty() {
            return Err(SessionError::NoId);
        }
        match self.sessions.lock().entry(id) {
            std::collections::hash_map::Entry::Occupied(taken) => Err(SessionError::Exists(taken.key().clone())),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(None);
                Ok(Place { sessions: self.clone(), announcement })
            }
        }
    }

    /// The session of that id, if it is there.
    fn now(&self, id: &str) -> Option<Arc<Session>> {
        self.sessions.lock().get(id).cloned().flatten()
    }

    /// The session of that id; waits for a client that has not connected yet, but no longer than `patience`.
    pub async fn find(&self, id: &str, patience: Duration) -> Result<Arc<Session>, SessionError> {
        let mut changed = self.changed.subscribe();
        let found = async {
            loop {
                if let Some(session) = self.now(id) {
                    return session;
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(patience, found).await.map_err(|_| SessionError::Missing(id.to_owned()))
    }
}

/// The place of a client that is about to connect. Dropping it gives the id free.
pub struct Place {
    sessions: Sessions,
    announcement: Announcement,
}

impl Place {
    /// Speaks with the client until it goes away.
    pub async fn serve(self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<(), SessionError> {
        let id = self.announcement.id.clone();
        let broken = |error: crate::grpc::GrpcError| SessionError::Broken(id.clone(), error.to_string());
        let (channel, driver) = Channel::connect(io).await.map_err(broken)?;
        let session = Arc::new(Session {
            methods: self.announcement.methods.iter().map(|method| method.to_ascii_lowercase()).collect(),
            announcement: self.announcement.clone(),
            channel,
            closed: CancellationToken::new(),
        });
        let _gone = session.closed.clone().drop_guard();
        self.sessions.sessions.lock().insert(id.clone(), Some(session));
        self.sessions.changed.send_replace(());
        driver.await.map_err(broken)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sessions.sessions.lock().remove(&self.announcement.id);
    }
}

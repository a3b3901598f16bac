//! The client of a build, reached through its session.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skep_build::BuildError;
use skep_build::graph::LocalSource;
use skep_build::services::{Duplex, Later, RegistryLogin, Services, Synced};
use skep_buildkit::filesync::{All, ReceiveOptions, Source, SyncError};
use skep_buildkit::session::{Session, Sessions, Wanted};
use skep_types::{Digest, ErrorKind};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tonic::{Code, Status};

/// How long a build waits for its client's session.
const PATIENCE: Duration = Duration::from_secs(10);

/// The client whose session has that id; looked for when it is needed first.
pub(crate) struct Client {
    sessions: Sessions,
    id: String,
}

impl Client {
    pub(crate) fn new(sessions: Sessions, id: String) -> Arc<Self> {
        Arc::new(Client { sessions, id })
    }

    async fn session(&self) -> Result<Arc<Session>, BuildError> {
        if self.id.is_empty() {
            return Err(BuildError::invalid("could not access local files without session"));
        }
        let missing =
            |error: skep_buildkit::session::SessionError| BuildError::new(ErrorKind::Cancelled, error.to_string());
        self.sessions.find(&self.id, PATIENCE).await.map_err(missing)
    }

    /// Ready when a client that was here has gone.
    pub(crate) async fn gone(&self) {
        match self.session().await {
            Ok(session) => session.closed().cancelled().await,
            Err(_) => std::future::pending().await,
        }
    }
}

fn failed(status: &Status) -> BuildError {
    let kind = match status.code() {
        Code::Cancelled | Code::Unavailable => ErrorKind::Cancelled,
        Code::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::System,
    };
    BuildError::new(kind, status.message())
}

pub(crate) fn failed_sync(error: SyncError) -> BuildError {
    match error {
        SyncError::Call(status) => failed(&status),
        SyncError::CutShort => BuildError::new(ErrorKind::Cancelled, error.to_string()),
        SyncError::File { ref source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            BuildError::new(ErrorKind::Exhausted, error.to_string())
        }
        SyncError::TooMuch(text) => BuildError::new(ErrorKind::Exhausted, text),
        other => BuildError::new(ErrorKind::System, other.to_string()),
    }
}

impl Services for Client {
    fn shared_key<'a>(&'a self, name: &'a str) -> Later<'a, Option<String>> {
        Box::pin(async move {
            let session = self.session().await?;
            let key = session.shared_key();
            Ok((!key.is_empty()).then(|| format!("{name}:{key}")))
        })
    }

    fn sync<'a>(
        &'a self,
        source: &'a LocalSource,
        into: OwnedFd,
        told: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Later<'a, Synced> {
        Box::pin(async move {
            let wanted = Wanted {
                name: source.name.clone(),
                include: source.include.clone(),
                exclude: source.exclude.clone(),
                follow: source.follow.clone(),
            };
            let session = self.session().await?;
            let received = session.sync(&wanted, into, ReceiveOptions::default(), told).await.map_err(failed_sync)?;
            Ok(Synced { bytes: received.bytes, files: received.entries })
        })
    }

    fn secret<'a>(&'a self, id: &'a str) -> Later<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            if self.id.is_empty() {
                return Ok(None); // a client without a session has nothing to give
            }
            self.session().await?.secret(id).await.map_err(|status| failed(&status))
        })
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> Later<'a, bool> {
        Box::pin(async move {
            if self.id.is_empty() {
                return Ok(false);
            }
            self.session().await?.has_agent(id).await.map_err(|status| failed(&status))
        })
    }

    fn agent<'a>(&'a self, id: &'a str) -> Later<'a, Box<dyn Duplex>> {
        Box::pin(async move {
            let agent = self.session().await?.agent(id).await.map_err(|status| failed(&status))?;
            Ok(Box::new(agent) as Box<dyn Duplex>)
        })
    }

    fn login<'a>(&'a self, host: &'a str) -> Later<'a, Option<RegistryLogin>> {
        Box::pin(async move {
            // Without a session nobody is asked, and the registry is tried as anyone.
            let Ok(session) = self.session().await else { return Ok(None) };
            let login = session.login(host).await.map_err(|status| failed(&status))?;
            Ok(login.map(|login| RegistryLogin { username: login.username, secret: login.secret }))
        })
    }

    fn upload<'a>(&'a self, name: &'a str) -> Later<'a, Box<dyn AsyncRead + Send + Unpin>> {
        Box::pin(async move {
            let rest = name.strip_prefix("http://").unwrap_or(name);
            let (host, path) = rest.split_once('/').unwrap_or(("buildkit-session", rest));
            let host = if host.is_empty() { "buildkit-session" } else { host };
            let session = self.session().await?;
            session.upload(host, &format!("/{path}")).await.map_err(|status| failed(&status))
        })
    }

    fn send_file<'a>(&'a self, export: usize, name: Option<&'a str>) -> Later<'a, Box<dyn AsyncWrite + Send + Unpin>> {
        Box::pin(async move {
            let session = self.session().await?;
            let about: Vec<(&str, &str)> = name.iter().map(|name| ("image.name", *name)).collect();
            let file = session.send_file(export, &about).await.map_err(|status| failed(&status))?;
            Ok(Box::new(file) as Box<dyn AsyncWrite + Send + Unpin>)
        })
    }

    fn send_tree<'a>(&'a self, export: usize, from: &'a Path) -> Later<'a, ()> {
        Box::pin(async move {
            let open = |error| BuildError::new(ErrorKind::System, format!("open {}: {error}", from.display()));
            let root = std::fs::File::open(from).map_err(open)?.into();
            let source = Source { root, choose: Box::new(All), owner: None };
            self.session().await?.send_tree(export, source).await.map_err(failed_sync)
        })
    }

    fn blob<'a>(&'a self, store: &'a str, digest: &'a Digest, into: &'a Path) -> Later<'a, ()> {
        Box::pin(async move {
            let failed_here = |error: std::io::Error| BuildError::new(ErrorKind::System, format!("{digest}: {error}"));
            let session = self.session().await?;
            let mut file = tokio::fs::File::create(into).await.map_err(failed_here)?;
            session.read_blob(store, &digest.to_string(), &mut file).await.map_err(|status| failed(&status))?;
            file.flush().await.map_err(failed_here)
        })
    }

    fn put_blob<'a>(
        &'a self,
        store: &'a str,
        digest: &'a Digest,
        size: u64,
        from: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Later<'a, ()> {
        Box::pin(async move {
            let mut from = from;
            let session = self.session().await?;
            session.write_blob(store, &digest.to_string(), size, &mut from).await.map_err(|status| failed(&status))
        })
    }
}

#[cfg(test)]
mod tests {
    use skep_buildkit::session::Announcement;

    use super::*;

    /// A client may ask for its build before its session is there.
    #[tokio::test]
    async fn the_directories_of_a_client_that_is_not_there_yet_have_its_names() {
        let sessions = Sessions::default();
        for (id, key, expected) in [("one", "project", Some("context:project")), ("two", "", None)] {
            let client = Client::new(sessions.clone(), id.to_owned());
            let announcement =
                Announcement { id: id.to_owned(), shared_key: key.to_owned(), ..Announcement::default() };
            let (far, near) = tokio::io::duplex(64 << 10);
            let connect = async {
                let place = sessions.reserve(announcement).expect("a place");
                tokio::spawn(async move { place.serve(near).await });
                far
            };
            let (shared, _far) = tokio::join!(client.shared_key("context"), connect);
            assert_eq!(shared.expect("a session").as_deref(), expected);
        }
    }
}

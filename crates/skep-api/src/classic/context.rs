//! The client of a classic build: an archive, unpacked, and the logins of its request. It has no secrets and no agents.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use skep_build::BuildError;
use skep_build::graph::LocalSource;
use skep_build::services::{Duplex, Later, RegistryLogin, Services, Synced};
use skep_buildkit::filesync::{self, Patterns, ReceiveOptions, Source, SyncError};
use skep_buildkit::session::Wanted;
use skep_fs::Root;
use skep_fs::apply::{ExtractOptions, extract};
use skep_fs::decode::Decoder;
use skep_types::{Digest, ErrorKind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::buildkit::failed_sync;

/// Packets between the unpacked context and the builder's copy of it.
const AHEAD: usize = 64;

/// A context that came as an archive, in a directory that goes with it.
pub(super) struct Unpacked(tempfile::TempDir);

impl Unpacked {
    /// Unpacks `archive`, compressed or not, into a new directory in `place`. Blocks.
    pub(super) fn new(archive: impl Read, place: &Path) -> Result<Self, BuildError> {
        let failed = |error: std::io::Error| {
            let kind = match error.kind() {
                std::io::ErrorKind::StorageFull => ErrorKind::Exhausted,
                std::io::ErrorKind::Unsupported => ErrorKind::InvalidParameter,
                _ => ErrorKind::System,
            };
            BuildError::new(kind, format!("unpack the context: {error}"))
        };
        let directory = tempfile::Builder::new().prefix("context-").tempdir_in(place).map_err(failed)?;
        let root = Root::open(directory.path()).map_err(failed)?;
        let options = ExtractOptions { owner: Some((0, 0)), ..ExtractOptions::default() };
        let unpacked = extract(Decoder::new(archive).map_err(failed)?, &root, Path::new("."), &options);
        unpacked.map_err(|error| BuildError::new(error.kind(), format!("Error processing tar file: {error}")))?;
        Ok(Unpacked(directory))
    }

    /// Brings what is wanted of it into another directory. Blocks.
    fn copy(&self, wanted: &Wanted, into: OwnedFd) -> Result<filesync::Received, SyncError> {
        let open = |error| SyncError::File { doing: "open", path: "context".to_owned(), source: error };
        let root: OwnedFd = std::fs::File::open(self.0.path()).map_err(open)?.into();
        let choose = Box::new(Patterns::new(&root, wanted)?);
        let (packets, received) = mpsc::channel(AHEAD);
        let (requests, asked) = mpsc::channel(AHEAD);
        let (replies, mut waiting) = mpsc::unbounded_channel();
        std::thread::scope(|scope| {
            let source = Source { root, choose, owner: None };
            let sending = scope.spawn(move || filesync::send(source, asked, &packets));
            scope.spawn(move || {
                while let Some(packet) = waiting.blocking_recv() {
                    if requests.blocking_send(packet).is_err() {
                        break;
                    }
                }
            });
            let copied = filesync::receive(into, received, &replies, ReceiveOptions::default());
            drop(replies);
            let sent = sending.join().unwrap_or(Err(SyncError::CutShort));
            copied.and_then(|copied| sent.map(|()| copied))
        })
    }
}

/// The client.
pub(super) struct Client {
    pub(super) context: Option<Arc<Unpacked>>,
    /// Logins by registry.
    pub(super) logins: BTreeMap<String, RegistryLogin>,
}

fn not_there<T: Send + 'static>(what: &str) -> Later<'static, T> {
    let text = format!("the classic builder has no {what}: build with BuildKit");
    Box::pin(std::future::ready(Err(BuildError::new(ErrorKind::NotImplemented, text))))
}

impl Services for Client {
    fn shared_key<'a>(&'a self, _: &'a str) -> Later<'a, Option<String>> {
        // Nothing tells whose context an archive is.
        Box::pin(async { Ok(None) })
    }

    fn sync<'a>(
        &'a self,
        source: &'a LocalSource,
        into: OwnedFd,
        told: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Later<'a, Synced> {
        let wanted = Wanted {
            name: source.name.clone(),
            include: source.include.clone(),
            exclude: source.exclude.clone(),
            follow: source.follow.clone(),
        };
        let context = self.context.clone();
        Box::pin(async move {
            let copying = tokio::task::spawn_blocking(move || match context {
                Some(context) => context.copy(&wanted, into),
                None => Err(SyncError::Protocol("the request has no context".to_owned())),
            });
            let received = copying.await.unwrap_or(Err(SyncError::CutShort)).map_err(failed_sync)?;
            told(received.bytes);
            Ok(Synced { bytes: received.bytes, files: received.entries })
        })
    }

    fn secret<'a>(&'a self, _: &'a str) -> Later<'a, Option<Vec<u8>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn has_agent<'a>(&'a self, _: &'a str) -> Later<'a, bool> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn agent<'a>(&'a self, _: &'a str) -> Later<'a, Box<dyn Duplex>> {
        not_there("ssh agents")
    }

    fn login<'a>(&'a self, host: &'a str) -> Later<'a, Option<RegistryLogin>> {
        let names: &[&str] = match host {
            "docker.io" | "registry-1.docker.io" | "index.docker.io" => {
                &["https://index.docker.io/v1/", "index.docker.io", "docker.io"]
            }
            _ => &[],
        };
        let found = self.logins.get(host).or_else(|| names.iter().find_map(|name| self.logins.get(*name)));
        Box::pin(std::future::ready(Ok(found.cloned())))
    }

    fn upload<'a>(&'a self, _: &'a str) -> Later<'a, Box<dyn AsyncRead + Send + Unpin>> {
        not_there("streams")
    }

    fn send_file<'a>(&'a self, _: usize, _: Option<&'a str>) -> Later<'a, Box<dyn AsyncWrite + Send + Unpin>> {
        not_there("outputs")
    }

    fn send_tree<'a>(&'a self, _: usize, _: &'a Path) -> Later<'a, ()> {
        not_there("outputs")
    }

    fn blob<'a>(&'a self, _: &'a str, _: &'a Digest, _: &'a Path) -> Later<'a, ()> {
        not_there("content stores")
    }

    fn put_blob<'a>(
        &'a self,
        _: &'a str,
        _: &'a Digest,
        _: u64,
        _: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Later<'a, ()> {
        not_there("content stores")
    }
}

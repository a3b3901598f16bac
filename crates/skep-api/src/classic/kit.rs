//! `POST /build?version=2`: BuildKit's builder behind the classic endpoint, as some SDKs speak it. The context is the archive in the
//! request (or the client's directory, with `remote=client-session`); secrets, agents and logins are asked of the session that `session`
//! names. What is told is BuildKit's status messages, each in a line of JSON.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use prost::Message;
use skep_build::graph::LocalSource;
use skep_build::services::{Duplex, Later, RegistryLogin, Services, Synced};
use skep_build::{BuildError, Job};
use skep_types::Digest;
use skep_wire::Progress as Line;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::{PENDING, Work, text};
use crate::buildkit::{Progress, SessionClient};

/// What the lines are about.
const TRACE: &str = "moby.buildkit.trace";
const IMAGE: &str = "moby.image.id";

/// Builds, and tells what goes on.
pub(super) async fn run(work: Work) -> Result<(), BuildError> {
    let Work { kit, options, client, cancel, lines } = work;
    let _cancels = cancel.clone().drop_guard();
    let _entry = kit.builds.begin_classic(&options.id, cancel.clone());
    let session = SessionClient::new(kit.sessions.clone(), options.session.clone());
    let archive: Option<Arc<dyn Services>> = options.has_archive.then_some(client);
    let (events, receiver) = mpsc::channel(PENDING);
    let job = Job { services: Arc::new(Mixed { archive, session }), events, cancel, inputs: Default::default() };
    let building = async {
        let built = kit.builder.build(options.request.clone(), job.clone()).await?;
        let exported = kit.builder.export(&built, &options.request, &job).await;
        drop(job);
        exported
    };
    let progress = Arc::new(Progress::default());
    let taking = async {
        progress.take(receiver).await;
        progress.finish();
    };
    let mut updates = Box::pin(Progress::listen(Arc::clone(&progress), |progress| progress));
    let telling = async {
        while let Some(Ok(update)) = updates.next().await {
            if !options.quiet {
                let aux = Some(STANDARD.encode(update.encode_to_vec()).into());
                let _ = lines.send(Line { id: TRACE.to_owned(), aux, ..Line::default() }).await; // nobody has to listen
            }
        }
    };
    let (exported, (), ()) = tokio::join!(building, taking, telling);
    let metadata = exported?.metadata;
    let id = metadata.get("containerimage.config.digest").or_else(|| metadata.get("containerimage.digest"));
    let id = id.cloned().unwrap_or_default();
    let last = match options.quiet {
        true => text::end(&id, &options.names, true),
        false => {
            let aux = Some(serde_json::json!({ "ID": id }));
            vec![Line { id: IMAGE.to_owned(), aux, ..Line::default() }]
        }
    };
    for line in last {
        let _ = lines.send(line).await; // nobody has to listen
    }
    Ok(())
}

/// The context of the request, and for all else the client's session.
struct Mixed {
    archive: Option<Arc<dyn Services>>,
    session: Arc<dyn Services>,
}

impl Mixed {
    fn of_context(&self) -> &dyn Services {
        &**self.archive.as_ref().unwrap_or(&self.session)
    }
}

impl Services for Mixed {
    fn shared_key<'a>(&'a self, name: &'a str) -> Later<'a, Option<String>> {
        self.of_context().shared_key(name)
    }

    fn sync<'a>(
        &'a self,
        source: &'a LocalSource,
        into: OwnedFd,
        told: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Later<'a, Synced> {
        self.of_context().sync(source, into, told)
    }

    fn secret<'a>(&'a self, id: &'a str) -> Later<'a, Option<Vec<u8>>> {
        self.session.secret(id)
    }

    fn has_agent<'a>(&'a self, id: &'a str) -> Later<'a, bool> {
        self.session.has_agent(id)
    }

    fn agent<'a>(&'a self, id: &'a str) -> Later<'a, Box<dyn Duplex>> {
        self.session.agent(id)
    }

    fn login<'a>(&'a self, host: &'a str) -> Later<'a, Option<RegistryLogin>> {
        self.session.login(host)
    }

    fn upload<'a>(&'a self, name: &'a str) -> Later<'a, Box<dyn AsyncRead + Send + Unpin>> {
        self.session.upload(name)
    }

    fn send_file<'a>(&'a self, export: usize, name: Option<&'a str>) -> Later<'a, Box<dyn AsyncWrite + Send + Unpin>> {
        self.session.send_file(export, name)
    }

    fn send_tree<'a>(&'a self, export: usize, from: &'a Path) -> Later<'a, ()> {
        self.session.send_tree(export, from)
    }

    fn blob<'a>(&'a self, store: &'a str, digest: &'a Digest, into: &'a Path) -> Later<'a, ()> {
        self.session.blob(store, digest, into)
    }

    fn put_blob<'a>(
        &'a self,
        store: &'a str,
        digest: &'a Digest,
        size: u64,
        from: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Later<'a, ()> {
        self.session.put_blob(store, digest, size, from)
    }
}

//! `ROOT/control.sock`: how the command line asks a running registry for something, which is to collect garbage.
//!
//! One line of JSON each way. The socket is for the owner of the root only, and lies in a directory that is, too.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::collect::{Collection, Mode, Report, Retention, RetentionError};
use crate::http::server::Shared;

/// A question is not longer than this.
const LINE: u64 = 64 << 10;

/// How long somebody who connected may take for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Question {
    collection: Collection,
    /// A file of rules in place of the registry's own.
    retention: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Reply {
    Report(Report),
    Failed(String),
}

/// Why a running registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The connection broke.
    #[error("asking the running registry: {0}")]
    Connection(#[from] io::Error),
    /// It answered something else.
    #[error("asking the running registry: {0}")]
    Form(#[from] serde_json::Error),
    /// It tried, and failed.
    #[error("{0}")]
    Failed(String),
}

fn path(root: &Path) -> PathBuf {
    root.join("control.sock")
}

/// Asks the registry that runs on `root` to collect garbage; `None` if none does.
pub async fn collect(
    root: &Path,
    collection: &Collection,
    retention: Option<&Path>,
) -> Result<Option<Report>, ControlError> {
    let stream = match UnixStream::connect(path(root)).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let question = Question { collection: collection.clone(), retention: retention.map(Path::to_owned) };
    let mut stream = BufReader::new(stream);
    stream.write_all(&line(&question)?).await?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await?;
    match serde_json::from_str(&answer)? {
        Reply::Report(report) => Ok(Some(report)),
        Reply::Failed(text) => Err(ControlError::Failed(text)),
    }
}

fn line(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Makes the socket. The root is ours: a file that is there is what an earlier process left.
pub(crate) fn listen(root: &Path) -> io::Result<UnixListener> {
    let path = path(root);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until the registry stops.
pub(crate) async fn serve(shared: Arc<Shared>, listener: UnixListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let owner = shared.clone();
                shared.tasks.spawn(async move {
                    if let Err(error) = answer(&owner, stream).await {
                        tracing::info!(%error, "a question on the control socket broke off");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept on the control socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(shared: &Shared, stream: UnixStream) -> Result<(), ControlError> {
    let (read, mut write) = stream.into_split();
    let mut question = String::new();
    let mut reader = BufReader::new(read.take(LINE));
    tokio::time::timeout(PATIENCE, reader.read_line(&mut question)).await.map_err(io::Error::from)??;
    let question: Question = serde_json::from_str(&question)?;
    let reply = match rules(shared, question.retention.as_deref()) {
        Err(error) => Reply::Failed(error.to_string()),
        Ok(rules) => match shared.content.collect(&question.collection, &rules).await {
            Ok(report) => {
                if question.collection.mode == Mode::Remove {
                    shared.metrics.collected(&report);
                }
                Reply::Report(report)
            }
            Err(error) => Reply::Failed(error.to_string()),
        },
    };
    write.write_all(&line(&reply)?).await?;
    Ok(())
}

fn rules(shared: &Shared, file: Option<&Path>) -> Result<Retention, RetentionError> {
    file.map_or_else(|| Ok(shared.retention.read().clone()), Retention::read)
}

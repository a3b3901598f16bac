//! Files of web servers. What was fetched is kept, and the server asked whether it is still the same.
//!
//! ```text
//! D/build/http/URL-0/about.json    what the server said
//! D/build/http/URL-0/file/NAME     the file, mode 0600, with the server's time
//! ```
//! A file that the client itself sends comes under an address of this form, too; it is kept as long as its build needs it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use skep_build::BuildError;
use skep_build::graph::HttpSource;
use skep_build::worker::{Context, Dir, Tree};
use skep_registry::{Answer, Download, Seen, digest_of};
use skep_types::{Digest, ErrorKind};
use tokio_util::io::ReaderStream;

use super::super::error::{cancelled, failed, unknown};
use super::slots::{Slot, make_room};
use crate::engine::Inner;

/// The largest file that is fetched, in bytes.
const MOST: u64 = 64 << 30;

/// The server that is the client: what it announced is at a path of its own (`docker build -`).
const CLIENT: &str = "http://buildkit-session/";

/// What is known of a file that was fetched.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct About {
    name: String,
    digest: Digest,
    /// Seconds since 1970.
    modified: u64,
    seen: Seen,
}

/// Fetches a file.
pub(in crate::build) async fn fetch(
    engine: &Arc<Inner>,
    source: &HttpSource,
    context: &Context,
) -> Result<Tree, BuildError> {
    let key = format!("{:?} {:?}", source.url, source.name);
    let name = &digest_of(key.as_bytes()).hex()[..32];
    let slot = engine.builds.downloads.take(&engine.config.data_root.join("build/http"), name)?;
    if source.url.starts_with(CLIENT) {
        return sent(source, slot, context).await;
    }
    let known = known(&slot.path).filter(|about| source.checksum.is_none_or(|wanted| wanted == about.digest));
    // A file whose digest is asked for and known needs nobody's word.
    let about = match known {
        Some(about) if source.checksum.is_some() => about,
        known => {
            let asking = ask(engine, source, &slot.path, known);
            let answer = tokio::select! {
                answer = asking => answer,
                () = context.cancel.cancelled() => return Err(cancelled()),
            };
            // As BuildKit says it, which has to fetch the file only to know it where no digest is given.
            answer.map_err(|error| if source.checksum.is_none() { unknown(error) } else { error })?
        }
    };
    let identity = digest_of(format!("{} {:?} {}", about.digest, about.name, about.modified).as_bytes());
    Ok(Tree::Dir(Arc::new(Dir { path: slot.path.join("file"), identity: Some(identity), guard: Box::new(slot) })))
}

/// A file that the client sends once.
async fn sent(source: &HttpSource, slot: Slot, context: &Context) -> Result<Tree, BuildError> {
    let directory = slot.path.join("file");
    let slot = slot.once();
    make_room(&directory).map_err(failed("make room for a file"))?;
    let name = source.name.clone().unwrap_or_else(|| file_name(&source.url, None));
    let receive = async {
        let stream = ReaderStream::new(context.services.upload(&source.url).await?);
        let stream = stream.map(|piece| piece.map_err(failed("receive what a client sends")));
        write(&directory.join(name), &source.url, stream).await
    };
    tokio::select! {
        received = receive => received.map(drop)?,
        () = context.cancel.cancelled() => return Err(cancelled()),
    }
    Ok(Tree::Dir(Arc::new(Dir { path: directory, identity: None, guard: Box::new(slot) })))
}

fn known(slot: &Path) -> Option<About> {
    let about: About = serde_json::from_slice(&std::fs::read(slot.join("about.json")).ok()?).ok()?;
    slot.join("file").join(&about.name).is_file().then_some(about)
}

async fn ask(engine: &Arc<Inner>, source: &HttpSource, slot: &Path, known: Option<About>) -> Result<About, BuildError> {
    let seen = known.as_ref().map(|about| &about.seen);
    let answer = skep_registry::download_unless(engine.images.registry(), &source.url, seen).await;
    let download = match answer {
        Err(error) => return Err(BuildError::new(error.kind(), error.to_string())),
        Ok(Answer::Same) => match known {
            Some(about) => return Ok(about),
            None => return Err(BuildError::new(ErrorKind::Unavailable, "the server sent nothing")),
        },
        Ok(Answer::Refused(status)) => {
            let kind = if status == 404 { ErrorKind::NotFound } else { ErrorKind::Unavailable };
            return Err(BuildError::new(kind, format!("invalid response status {status}")));
        }
        Ok(Answer::File(download)) => *download,
    };
    let directory = slot.join("file");
    match std::fs::remove_file(slot.join("about.json")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed("forget a file")(error)),
        _ => make_room(&directory).map_err(failed("make room for a file"))?,
    }
    let about = receive(download, source, &directory).await?;
    let text = serde_json::to_vec(&about).map_err(std::io::Error::from);
    text.and_then(|text| std::fs::write(slot.join("about.json"), text)).map_err(failed("note what was fetched"))?;
    Ok(about)
}

async fn receive(download: Download, source: &HttpSource, directory: &Path) -> Result<About, BuildError> {
    let seen = download.seen().clone();
    let name = source.name.clone().unwrap_or_else(|| file_name(&source.url, download.file_name().as_deref()));
    let time = seen.last_modified.as_deref().and_then(|text| httpdate::parse_http_date(text).ok());
    let modified = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs());
    let stream = download.into_stream();
    let stream = stream.map(|piece| piece.map_err(|error| BuildError::new(error.kind(), error.to_string())));
    let (file, digest) = write(&directory.join(&name), &source.url, stream).await?;
    if let Some(wanted) = source.checksum.filter(|wanted| *wanted != digest) {
        return Err(BuildError::invalid(format!("digest mismatch {digest}: {wanted}")));
    }
    let time: SystemTime = UNIX_EPOCH + Duration::from_secs(modified);
    file.set_modified(time).map_err(failed("set the time of what was fetched"))?;
    Ok(About { name, digest, modified, seen })
}

/// Makes a file of what comes.
async fn write(
    path: &Path,
    url: &str,
    stream: impl Stream<Item = Result<Bytes, BuildError>>,
) -> Result<(File, Digest), BuildError> {
    let opened = File::options().write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(failed("make a file for what is fetched"))?;
    let (mut hasher, mut size) = (skep_store::Sha256::default(), 0u64);
    let mut stream = std::pin::pin!(stream);
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        size += piece.len() as u64;
        if size > MOST {
            return Err(BuildError::invalid(format!("{url} is larger than {MOST} bytes")));
        }
        hasher.update(&piece);
        file.write_all(&piece).map_err(failed("write what is fetched"))?;
    }
    Ok((file, hasher.finish()))
}

/// The name of a file: what the server says, else the last part of the URL's path.
fn file_name(url: &str, said: Option<&str>) -> String {
    let last = |text: &str| {
        let name = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let bad = matches!(name, "" | "." | "..") || name.contains('\0');
        (!bad).then(|| name.to_owned())
    };
    let said = said.filter(|name| !name.ends_with('/')).and_then(last);
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once('/').map(|(_, path)| path).filter(|path| !path.ends_with("/.."));
    said.or_else(|| path.and_then(last)).unwrap_or_else(|| "download".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        for (url, said, name) in [
            ("http://h/a/b.txt", None, "b.txt"),
            ("http://h/a/b.txt?x=/y", None, "b.txt"),
            ("http://h/a/", None, "a"),
            ("http://h", None, "download"),
            ("http://h/", None, "download"),
            ("http://h/x", Some("../../etc/passwd"), "passwd"),
            ("http://h/x", Some("d/"), "x"),
            ("http://h/x", Some(".."), "x"),
        ] {
            assert_eq!(file_name(url, said), name, "{url} {said:?}");
        }
    }
}

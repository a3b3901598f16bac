//! Files of web servers. What was fetched is kept, and the server asked whether it is still the same.
//!
//! ```text
//! D/build/http/URL-0/about.json    what the server said
//! D/build/http/URL-0/file/NAME     the file, mode 0600, with the server's time
//! ```
//! A file that the client itself sends comes under an address of this form, too; it is kept as long as its build needs it.

use std::fs::File;
use std::io::{Read, Write};
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

use super::super::error::{blocking, cancelled, failed, unknown};
use super::in_time;
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
    if source.url.starts_with(CLIENT) {
        return sent(source, slot(engine, source)?, context).await;
    }
    let (slot, about) = obtain(engine, source, context).await?;
    let identity = digest_of(format!("{} {:?} {}", about.digest, about.name, about.modified).as_bytes());
    Ok(Tree::Dir(Arc::new(Dir { path: slot.path.join("file"), identity: Some(identity), guard: Box::new(slot) })))
}

/// What is known of a file once it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpFacts {
    /// Its name.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
    /// When it was changed last, as the server says, in seconds since 1970.
    pub modified: Option<u64>,
    /// Another digest, with its algorithm, if one is asked for.
    pub checksum: Option<String>,
}

/// A digest that is asked for: of a file with something behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// How it is made.
    pub algorithm: Algorithm,
    /// What is behind the file.
    pub suffix: Vec<u8>,
}

/// How a digest is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// Says what a file is; it is fetched for that, and is here then for who wants it.
pub(in crate::build) async fn look(
    engine: &Arc<Inner>,
    source: &HttpSource,
    wanted: Option<Checksum>,
    context: &Context,
) -> Result<HttpFacts, BuildError> {
    if source.url.starts_with(CLIENT) {
        return Err(BuildError::invalid("what a client sends is not looked at before it is built"));
    }
    let (slot, about) = obtain(engine, source, context).await?;
    let path = slot.path.join("file").join(&about.name);
    let sum = move || wanted.map(|wanted| wanted.of(&path).map_err(failed("read what was fetched"))).transpose();
    let checksum = blocking(sum).await?;
    drop(slot);
    let modified = Some(about.modified).filter(|time| *time > 0);
    Ok(HttpFacts { name: about.name, digest: about.digest, modified, checksum })
}

impl Checksum {
    fn of(&self, path: &Path) -> std::io::Result<String> {
        let (name, algorithm) = match self.algorithm {
            Algorithm::Sha256 => ("sha256", &aws_lc_rs::digest::SHA256),
            Algorithm::Sha384 => ("sha384", &aws_lc_rs::digest::SHA384),
            Algorithm::Sha512 => ("sha512", &aws_lc_rs::digest::SHA512),
        };
        let mut sum = aws_lc_rs::digest::Context::new(algorithm);
        let (mut file, mut buffer) = (File::open(path)?, vec![0; 1 << 17]);
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => sum.update(&buffer[..count]),
            }
        }
        sum.update(&self.suffix);
        let hex: String = sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("{name}:{hex}"))
    }
}

fn slot(engine: &Inner, source: &HttpSource) -> Result<Slot, BuildError> {
    let key = format!("{:?} {:?}", source.url, source.name);
    let name = &digest_of(key.as_bytes()).hex()[..32];
    engine.builds.downloads.take(&engine.config.data_root.join("build/http"), name)
}

/// Fetches a file, unless it is here and still what it is to be.
async fn obtain(engine: &Arc<Inner>, source: &HttpSource, context: &Context) -> Result<(Slot, About), BuildError> {
    let slot = slot(engine, source)?;
    let known = known(&slot.path).filter(|about| source.checksum.is_none_or(|wanted| wanted == about.digest));
    // A file whose digest is asked for and known needs nobody's word.
    let about = match known {
        Some(about) if source.checksum.is_some() => about,
        known => {
            let asking = ask(engine, source, &slot.path, known);
            let answer = tokio::select! {
                answer = in_time(&source.url, asking) => answer,
                () = context.cancel.cancelled() => return Err(cancelled()),
            };
            // As BuildKit says it, which has to fetch the file only to know it where no digest is given.
            answer.map_err(|error| if source.checksum.is_none() { unknown(error) } else { error })?
        }
    };
    Ok((slot, about))
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

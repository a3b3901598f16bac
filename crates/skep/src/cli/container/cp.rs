//! `cp`: files between a container and this machine.
//!
//! The engine packs and unpacks at its end; here it is done in a blocking thread tied to the connection by a short queue.
//! Unpacking is confined to the destination directory by the kernel, whatever names and links an archive holds.

use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::Path;

use futures_util::stream::poll_fn;
use skep_client::{Bytes, Client, Method, Response};
use skep_fs::apply::ExtractOptions;
use skep_wire::PathStat;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::cp_paths::{
    Destination, Source, check_output_path, follow, keep_ending, local_absolute, local_destination, local_source, plan,
    split_end, split_entry,
};
use super::export::to_stdout;
use super::rebase::{Rebase, Rebased};
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, reference};
use crate::ui::{self, human};

const STAT_HEADER: &str = "x-docker-container-path-stat";
const TAR: &str = "application/x-tar";
const QUEUE: usize = 8;
const PIECE: usize = 64 * 1024;

flags! {
    pub(crate) struct CopyFlags {
        archive: bool => "archive" 'a', "Keep owners and groups";
        follow_link: bool => "follow-link" 'L', "Copy what a link SRC_PATH points to";
        quiet: Option<bool> => "quiet" 'q', "Do not say what was copied; the default without a terminal";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["cp", "container cp"],
    usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH",
    about: "Copy files/folders between a container and the local filesystem",
    args: Args::Exactly(2),
    completion: Completion::Containers,
    flags: CopyFlags::specs,
    run: runner!(CopyFlags, run),
};

async fn run(cli: &Cli, flags: CopyFlags, words: Vec<String>) -> Outcome {
    let [source, destination] = words.as_slice() else { return Ok(()) };
    if source.is_empty() {
        return Err(Failure::message("source can not be empty"));
    }
    if destination.is_empty() {
        return Err(Failure::message("destination can not be empty"));
    }
    let (from, to) = (split_end(source), split_end(destination));
    let copied = match (from.container, to.container) {
        ("", "") => return Err(Failure::message("must specify at least one container source")),
        (container, "") => out_of(cli, &flags, container, from.path, to.path).await?,
        ("", container) => into(cli, &flags, container, from.path, to.path).await?,
        _ => return Err(Failure::message("copying between containers is not supported")),
    };
    let quiet = flags.quiet.unwrap_or_else(|| !io::stdout().is_terminal());
    if let Some(Copied { bytes, place }) = copied.filter(|_| !quiet) {
        let size = human::size(i64::try_from(bytes).unwrap_or(i64::MAX));
        ui::error_line(&format!("Successfully copied {size} to {place}"));
    }
    Ok(())
}

/// What went over, for the line at the end.
struct Copied {
    bytes: u64,
    place: String,
}

async fn out_of(
    cli: &Cli,
    flags: &CopyFlags,
    container: &str,
    source: &str,
    destination: &str,
) -> Result<Option<Copied>, Failure> {
    let place = if destination == "-" { destination.to_owned() } else { local_absolute(destination)? };
    if destination != "-" {
        check_output_path(&place)?;
    }
    let client = cli.client().await?;
    let mut path = source.to_owned();
    if flags.follow_link
        && let Ok(found) = stat(client, container, source).await?
        && found.mode & PathStat::SYMLINK != 0
    {
        path = keep_ending(source, &follow(source, &found.link_target));
    }
    let archive =
        client.request(Method::GET, reference::container(container, "/archive")?).query("path", &path).send().await?;
    if destination == "-" {
        return to_stdout(archive).await.map(|()| None);
    }
    let found = stat_of(&archive)?;
    let source = Source { path: source, is_dir: found.mode & PathStat::DIRECTORY != 0 };
    let plan = plan(&source, &local_destination(&place)?)?;
    // What was reached through a link keeps the link's name.
    let (asked, packed) = (split_entry(source.path).1, split_entry(&path).1);
    let name = plan.name.or_else(|| (asked != packed).then(|| asked.clone()));
    let root = rustix::process::geteuid().is_root();
    let rebase = Rebase { name, in_front: matches!(packed.as_str(), "." | "/"), attributes: root };
    let bytes = unpack(archive, plan.dir, rebase).await?;
    Ok(Some(Copied { bytes, place }))
}

/// Unpacks a body into the directory `dir`; everything belongs to the caller afterwards.
async fn unpack(mut archive: Response, dir: String, rebase: Rebase) -> Result<u64, Failure> {
    let (queue, pieces) = mpsc::channel(QUEUE);
    let unpacking = tokio::task::spawn_blocking(move || {
        let root = skep_fs::Root::open(Path::new(&dir)).map_err(|e| Failure::from(e).text)?;
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let options = ExtractOptions { keep_directories: true, owner: Some(owner), ..ExtractOptions::default() };
        let archive = Rebased::new(QueueReader { pieces, current: Bytes::new() }, rebase);
        skep_fs::apply::extract(archive, &root, Path::new("."), &options).map_err(|e| e.to_string())
    });
    let mut bytes = 0;
    let mut broken = None;
    loop {
        let piece = match archive.chunk().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => {
                // The other side must not take this for the end of the archive.
                let _ = queue.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
                broken = Some(error);
                break;
            }
        };
        bytes += piece.len() as u64;
        if queue.send(Ok(piece)).await.is_err() {
            break;
        }
    }
    drop(queue);
    let unpacked = unpacking.await.map_err(|e| Failure::message(e.to_string()))?;
    match broken {
        Some(error) => Err(error.into()),
        None => unpacked.map(|()| bytes).map_err(Failure::message),
    }
}

async fn into(
    cli: &Cli,
    flags: &CopyFlags,
    container: &str,
    source: &str,
    destination: &str,
) -> Result<Option<Copied>, Failure> {
    let client = cli.client().await?;
    let target = container_destination(client, container, destination).await?;
    let place = format!("{container}:{}", target.path);
    let request = |dir: &str| -> Result<_, Failure> {
        Ok(client
            .request(Method::PUT, reference::container(container, "/archive")?)
            .query("path", dir)
            .query("noOverwriteDirNonDir", "true")
            .query_opt("copyUIDGID", flags.archive.then_some("true")))
    };
    let (queue, mut pieces) = mpsc::channel::<io::Result<Bytes>>(QUEUE);
    if source == "-" {
        if target.is_dir != Some(true) {
            return Err(Failure::message(format!("destination \"{container}:{destination}\" must be a directory")));
        }
        let body = poll_fn(move |context| pieces.poll_recv(context));
        let feed = feed_stdin(queue);
        let (answer, bytes) = tokio::join!(request(&target.path)?.stream(TAR, body).send(), feed);
        answer?.bytes().await?;
        return Ok(Some(Copied { bytes, place }));
    }
    let local = local_source(source, flags.follow_link)?;
    let plan = plan(&Source { path: source, is_dir: local.is_dir }, &target)?;
    let base = plan.name.unwrap_or_else(|| local.name.clone());
    let packing = tokio::task::spawn_blocking(move || pack(&local.path, &base, queue));
    let body = poll_fn(move |context| pieces.poll_recv(context));
    let answer = request(&plan.dir)?.stream(TAR, body).send().await;
    let packed = packing.await.map_err(|e| Failure::message(e.to_string()))?;
    match (answer, packed) {
        (Ok(answer), Ok(bytes)) => answer.bytes().await.map(|_| Ok(Some(Copied { bytes, place })))?,
        // An engine that refuses stops reading: its reason counts, not the broken pipe.
        (Err(error), Err(local)) if local.kind() != io::ErrorKind::BrokenPipe && !error.is_not_found() => {
            Err(local.into())
        }
        (Err(error), _) => Err(error.into()),
        (Ok(_), Err(local)) => Err(local.into()),
    }
}

/// What is at the destination; a link there is followed, once, by its name inside the container.
async fn container_destination(client: &Client, container: &str, path: &str) -> Result<Destination, Failure> {
    const SPECIAL: u32 = PathStat::DEVICE | PathStat::NAMED_PIPE | PathStat::SOCKET;
    let mut target = path.to_owned();
    let mut found = stat(client, container, path).await?;
    if let Ok(link) = &found
        && link.mode & PathStat::SYMLINK != 0
    {
        target = follow(path, &link.link_target);
        found = stat(client, container, &target).await?;
    }
    // A missing destination is created; any other trouble comes back with the copy itself.
    let Ok(found) = found else { return Ok(Destination { path: target, is_dir: None }) };
    if found.mode & SPECIAL != 0 {
        let what = if found.mode & PathStat::DEVICE != 0 { "got a device" } else { "got a special file" };
        return Err(Failure::message(format!(
            "destination \"{container}:{path}\" must be a directory or a regular file: {what}"
        )));
    }
    Ok(Destination { path: target, is_dir: Some(found.mode & PathStat::DIRECTORY != 0) })
}

/// The outer error ends the command; the inner one is the engine's about the path.
async fn stat(client: &Client, container: &str, path: &str) -> Result<Result<PathStat, skep_client::Error>, Failure> {
    let request = client.request(Method::HEAD, reference::container(container, "/archive")?).query("path", path);
    match request.send().await {
        Ok(answer) => {
            let found = stat_of(&answer)?;
            answer.bytes().await?;
            Ok(Ok(found))
        }
        Err(error @ skep_client::Error::Api { .. }) => Ok(Err(error)),
        Err(error) => Err(error.into()),
    }
}

fn stat_of(answer: &Response) -> Result<PathStat, Failure> {
    let header = answer.headers().get(STAT_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    PathStat::from_header(header)
        .map_err(|e| Failure::message(format!("unable to get resource stat from response: {e}")))
}

async fn feed_stdin(queue: mpsc::Sender<io::Result<Bytes>>) -> u64 {
    let mut stdin = tokio::io::stdin();
    let mut bytes = 0;
    let mut buffer = vec![0; PIECE];
    loop {
        let piece = match stdin.read(&mut buffer).await {
            Ok(0) => return bytes,
            Ok(length) => Ok(Bytes::copy_from_slice(&buffer[..length])),
            Err(error) => Err(error),
        };
        bytes += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        let failed = piece.is_err();
        if queue.send(piece).await.is_err() || failed {
            return bytes;
        }
    }
}

/// Packs `path` under the name `base` into the queue; returns the archive's size.
fn pack(path: &Path, base: &str, queue: mpsc::Sender<io::Result<Bytes>>) -> io::Result<u64> {
    let mut out = BufWriter::with_capacity(PIECE, QueueWriter { queue: queue.clone(), bytes: 0 });
    let (dir, name) = match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => (dir, Path::new(name)),
        _ => (path, Path::new(".")),
    };
    let packed = skep_fs::Root::open(dir)
        .and_then(|root| skep_fs::pack::write_tree(&root, name, base.as_ref(), &mut out))
        .and_then(|()| out.flush());
    if packed.is_err() {
        // The engine must see a broken archive, not a short one. It may be gone already.
        let _ = queue.blocking_send(Err(io::ErrorKind::InvalidData.into()));
    }
    packed.map(|()| out.get_ref().bytes)
}

struct QueueWriter {
    queue: mpsc::Sender<io::Result<Bytes>>,
    bytes: u64,
}

impl Write for QueueWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(data);
        self.queue.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.bytes += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct QueueReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for QueueReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.current = piece?,
            }
        }
        let piece = self.current.split_to(out.len().min(self.current.len()));
        out[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

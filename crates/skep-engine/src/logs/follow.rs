//! Reads the log from where it was asked, and goes on with what comes, across rotations.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use super::line::{Verdict, judge, parse};
use super::tail::start_of_last;
use crate::model::request::{LogEntry, LogOptions};
use crate::{Error, Result};

/// Lines that may wait for a slow reader.
const BUFFER: usize = 256;

/// Opens the log at `path`. `running` tells when the container has ended, and with it a followed log.
pub(crate) fn open(
    path: PathBuf,
    options: LogOptions,
    running: watch::Receiver<bool>,
) -> mpsc::Receiver<Result<LogEntry>> {
    let (sender, receiver) = mpsc::channel(BUFFER);
    tokio::spawn(async move {
        let failed = match read_all(&path, &options, &sender).await {
            Ok(Some(reader)) if options.follow => follow(&path, reader, &options, running, &sender).await.err(),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            let _ = sender.send(Err(Error::system(format!("reading the log {}", path.display()), error))).await;
        }
    });
    receiver
}

/// A log file that is read line by line; a line without its end waits for the rest.
struct Reader {
    file: BufReader<File>,
    inode: u64,
    partial: Vec<u8>,
}

impl Reader {
    fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let inode = file.metadata()?.ino();
        Ok(Reader { file: BufReader::with_capacity(64 * 1024, file), inode, partial: Vec::new() })
    }

    /// The next whole line, or `None` at the present end.
    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.file.read_until(b'\n', &mut self.partial)?;
        Ok(self.partial.ends_with(b"\n").then(|| std::mem::take(&mut self.partial)))
    }
}

/// The files of the log, oldest first.
fn files(path: &Path) -> Vec<PathBuf> {
    let rotated = (1..).map(|n| PathBuf::from(format!("{}.{n}", path.display())));
    let mut files: VecDeque<PathBuf> =
        rotated.take_while(|file| file.exists()).fold(VecDeque::new(), |mut all, file| {
            all.push_front(file);
            all
        });
    files.push_back(path.to_owned());
    files.into()
}

/// Sends what is there. Answers the reader at the end of the newest file, or `None` when there is nothing more to say.
async fn read_all(
    path: &Path,
    options: &LogOptions,
    sender: &mpsc::Sender<Result<LogEntry>>,
) -> io::Result<Option<Reader>> {
    let mut readers = Vec::new();
    let mut left = options.tail;
    for file in files(path).iter().rev() {
        let offset = match (left, File::open(file)) {
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => continue,
            (_, Err(error)) => return Err(error),
            (None, Ok(_)) => 0,
            (Some(wanted), Ok(opened)) => {
                let (offset, found) = start_of_last(&opened, opened.metadata()?.len(), wanted)?;
                left = Some(wanted - found);
                offset
            }
        };
        readers.push(Reader::open(file, offset)?);
    }
    let mut newest = None;
    while let Some(mut reader) = readers.pop() {
        if !send_lines(&mut reader, options, sender).await? {
            return Ok(None);
        }
        newest = Some(reader);
    }
    match newest {
        Some(reader) => Ok(Some(reader)),
        None if options.follow => {
            // Nothing was written yet: an empty file stands for the one to come.
            Ok(Some(Reader { file: BufReader::new(File::open("/dev/null")?), inode: 0, partial: Vec::new() }))
        }
        None => Ok(None),
    }
}

/// Sends every whole line up to the present end; false when no more is wanted.
async fn send_lines(
    reader: &mut Reader,
    options: &LogOptions,
    sender: &mpsc::Sender<Result<LogEntry>>,
) -> io::Result<bool> {
    while let Some(line) = reader.next_line()? {
        let Some(entry) = parse(&line) else { continue };
        match judge(&entry, options) {
            Verdict::Skip => {}
            Verdict::End => return Ok(false),
            Verdict::Show => {
                if sender.send(Ok(entry)).await.is_err() {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

async fn follow(
    path: &Path,
    mut reader: Reader,
    options: &LogOptions,
    mut running: watch::Receiver<bool>,
    sender: &mpsc::Sender<Result<LogEntry>>,
) -> io::Result<()> {
    use rustix::fs::inotify;
    let notify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let Some(folder) = path.parent() else { return Ok(()) };
    let wanted = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&notify, folder, wanted)?;
    #[expect(deprecated, reason = "sound here: the descriptor is owned, and what replaces it is unsafe to call")]
    let notify = AsyncFd::new(notify)?;
    loop {
        let live = *running.borrow_and_update();
        if !catch_up(path, &mut reader, options, sender).await? || !live {
            return Ok(());
        }
        tokio::select! {
            () = sender.closed() => return Ok(()),
            changed = running.changed() => if changed.is_err() { return Ok(()) },
            () = until_sleep(options) => return Ok(()),
            ready = notify.readable() => {
                let mut ready = ready?;
                let mut buffer = [0u8; 4096];
                while rustix::io::read(notify.get_ref(), &mut buffer).is_ok() {}
                ready.clear_ready();
            }
        }
    }
}

/// Ends when nothing newer is wanted any more.
async fn until_sleep(options: &LogOptions) {
    match options.until.and_then(|until| (until - chrono::Utc::now()).to_std().ok()) {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}

/// Reads to the end, then moves on to the files that were begun since.
async fn catch_up(
    path: &Path,
    reader: &mut Reader,
    options: &LogOptions,
    sender: &mpsc::Sender<Result<LogEntry>>,
) -> io::Result<bool> {
    loop {
        // The order matters: look which file is the newest first, so that what was written to this one before it was
        // rotated is read before moving on.
        let newer = files(path)
            .into_iter()
            .rev()
            .take_while(|file| std::fs::metadata(file).is_ok_and(|found| found.ino() != reader.inode))
            .last();
        if !send_lines(reader, options, sender).await? {
            return Ok(false);
        }
        match newer {
            Some(next) => *reader = Reader::open(&next, 0)?,
            None => return Ok(true),
        }
    }
}

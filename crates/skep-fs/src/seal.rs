//! An overlay upper directory taken as a layer where it is: it already has overlayfs' form, so that nothing is copied.
//!
//! One walk makes the archive that the directory stands for, hands it to the caller for its digest, and keeps of it what
//! [`crate::split`] needs to make it again. What is in the archive is what [`crate::pack::write_layer`] writes, with two
//! differences: an opaque directory is only marked where the layers below have something to hide (overlayfs makes every new
//! directory in a merged one opaque), and the top itself is in it when its owner or mode isn't that of the layers below.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::Stat;

use crate::apply::{Below, below};
use crate::pack::{Sink, described, kept_xattrs, walk_layer};
use crate::rooted::Root;
use crate::split::SplitWriter;
use crate::tar::{BLOCK, Entry, Kind, Writer};
use crate::tree::open_dir;

/// Headers that are collected before they go to the record, and bytes that are read of a file at a time.
const RAW_MAX: usize = 64 * 1024;
const PIECE: usize = 256 * 1024;

/// What an upper directory came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sealed {
    /// Entries of the archive; none when nothing was changed.
    pub entries: u64,
    /// Bytes of file contents.
    pub bytes: u64,
    /// Bytes of the archive.
    pub tar_size: u64,
}

/// Records the upper directory `upper` over the stack `lower` (topmost first) in `split`, and gives `hash` the archive that it
/// stands for. Nobody may write to the directory meanwhile: a file that shrinks is an error.
pub fn seal(upper: &Root, lower: &[Root], split: SplitWriter, hash: &mut dyn FnMut(&[u8])) -> io::Result<Sealed> {
    let mut recorder = Recorder {
        writer: Writer::new(Vec::with_capacity(RAW_MAX)),
        split,
        hash,
        sealed: Sealed::default(),
        buffer: vec![0; PIECE],
    };
    if let Some(top) = changed_top(upper, lower)? {
        (&mut recorder).entry(&top)?;
    }
    let hides = |path: &[u8]| Ok(!matches!(below(lower, Path::new(OsStr::from_bytes(path)))?, Below::Nothing));
    walk_layer(upper, &mut recorder, &hides)?;
    recorder.finish()
}

/// The entry of the top itself, if it has other metadata than in the layers below. Times don't count: every change in the top
/// changes them.
fn changed_top(upper: &Root, lower: &[Root]) -> io::Result<Option<Entry>> {
    let Some(before) = lower.first() else { return Ok(None) };
    let [own, before] = [upper, before].map(|root| open_dir(root, OsStr::new(".")));
    let (own, before) = (own?, before?);
    let facts = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
    let (stat, old) = (rustix::fs::fstat(&own)?, rustix::fs::fstat(&before)?);
    let [xattrs, old_xattrs] = [&own, &before].map(|dir| kept_xattrs(dir, OsStr::new("")));
    let (xattrs, old_xattrs) = (xattrs?, old_xattrs?);
    if facts(&stat) == facts(&old) && xattrs == old_xattrs {
        return Ok(None);
    }
    Ok(Some(Entry { xattrs, ..described(b"./".to_vec(), Kind::Dir, &stat) }))
}

/// Takes an archive apart as it is made.
struct Recorder<'a> {
    /// Headers and padding that are not recorded yet.
    writer: Writer<Vec<u8>>,
    split: SplitWriter,
    hash: &'a mut dyn FnMut(&[u8]),
    sealed: Sealed,
    buffer: Vec<u8>,
}

impl Recorder<'_> {
    /// Records the headers that were collected.
    fn flush(&mut self) -> io::Result<()> {
        let raw = self.writer.out();
        (self.hash)(raw);
        self.split.raw(raw)?;
        self.sealed.tar_size += raw.len() as u64;
        raw.clear();
        Ok(())
    }

    /// Whole seconds, as in layers that Docker makes: parts of seconds would take a kilobyte of headers for each file.
    fn header(&mut self, entry: &Entry) -> io::Result<u64> {
        self.sealed.entries += 1;
        let (seconds, _) = entry.mtime;
        self.writer.header(&Entry { mtime: (seconds, 0), ..entry.clone() })
    }

    fn finish(mut self) -> io::Result<Sealed> {
        self.writer.out().extend_from_slice(&[0; 2 * BLOCK]);
        self.flush()?;
        self.split.finish()?;
        Ok(self.sealed)
    }
}

impl Sink for &mut Recorder<'_> {
    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.header(entry)?;
        if self.writer.out().len() > RAW_MAX { self.flush() } else { Ok(()) }
    }

    fn file(&mut self, entry: &Entry, mut contents: File) -> io::Result<()> {
        let size = self.header(entry)?;
        if size == 0 {
            return Ok(());
        }
        self.flush()?;
        self.split.file(&entry.path, &[(0, size)])?;
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let count = match contents.read(&mut self.buffer[..want]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file shrank while its layer was recorded"));
            }
            (self.hash)(&self.buffer[..count]);
            left -= count as u64;
        }
        self.sealed.bytes += size;
        self.sealed.tar_size += size;
        self.writer.pad(size)
    }
}

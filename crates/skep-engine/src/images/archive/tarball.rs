//! A tar archive of images, as a directory in memory that points into one file.
//!
//! Nothing is ever unpacked: names in the archive don't become names on disk. A link in the archive leads to another
//! name in the archive, or nowhere. The file has no name either, so a crash leaves nothing behind.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use skep_fs::tar::{Kind, Reader};

use super::super::{ImageError, Result};

/// The most entries that an archive of images may have.
const MAX_ENTRIES: usize = 100_000;
/// The most bytes that the names of all entries may have.
const MAX_NAMES: usize = 16 << 20;
/// The most bytes that are read into memory of all small files together, each time that one is asked for.
const MAX_READ: u64 = 256 << 20;
/// The longest chain of links.
const MAX_LINKS: usize = 16;

/// The archive.
#[derive(Debug)]
pub(super) struct Tarball {
    file: Arc<File>,
    entries: HashMap<String, Entry>,
    /// Bytes that may still be read into memory.
    budget: Cell<u64>,
}

#[derive(Debug, Clone)]
enum Entry {
    File { offset: u64, size: u64 },
    Link(String),
}

/// The contents of one entry. Each has a position of its own.
#[derive(Debug, Clone)]
pub(in crate::images) struct Slice {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Slice {
    /// Bytes that are left.
    pub(in crate::images) fn len(&self) -> u64 {
        self.left
    }
}

impl Read for Slice {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(out.len(), |left| left.min(out.len()));
        if most == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut out[..most], self.offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

impl Tarball {
    /// Reads the headers of the archive in `file` (not compressed).
    pub(super) fn index(file: File) -> Result<Self> {
        let file = Arc::new(file);
        let broken = |e: &dyn std::fmt::Display| ImageError::Invalid(format!("invalid archive: {e}"));
        let length = file.metadata()?.len();
        let mut entries = HashMap::new();
        let mut names = 0;
        let mut reader = Reader::new(BufReader::new(&*file));
        for count in 0.. {
            let Some(entry) = reader.next_entry().map_err(|e| broken(&e))? else { break };
            reader.take_raw();
            names += entry.path.len() + entry.link.len();
            if count >= MAX_ENTRIES || names > MAX_NAMES {
                return Err(broken(&format_args!("more than {MAX_ENTRIES} entries, or {MAX_NAMES} bytes of names")));
            }
            let offset = reader.data_position()?;
            if offset.checked_add(entry.stored).is_none_or(|end| end > length) {
                return Err(broken(&"unexpected EOF"));
            }
            reader.seek_past_data().map_err(|e| broken(&e))?;
            let Some(name) = normal(&entry.path, "") else {
                let name = String::from_utf8_lossy(&entry.path).chars().take(256).collect::<String>();
                return Err(broken(&format_args!("entry {name:?} is outside the archive")));
            };
            let found = match entry.kind {
                Kind::File if entry.pieces.is_some() => return Err(broken(&format_args!("{name:?} has holes"))),
                Kind::File => Some(Entry::File { offset, size: entry.stored }),
                Kind::Symlink => {
                    let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
                    normal(&entry.link, dir).map(Entry::Link)
                }
                Kind::HardLink => normal(&entry.link, "").map(Entry::Link),
                Kind::Dir | Kind::Char | Kind::Block | Kind::Fifo => None,
            };
            match found {
                Some(found) => entries.insert(name, found),
                // What was there under this name before is hidden by it.
                None => entries.remove(&name),
            };
        }
        Ok(Tarball { file, entries, budget: Cell::new(MAX_READ) })
    }

    /// Opens a file of the archive; follows links within it.
    pub(super) fn open(&self, name: &str) -> Result<Slice> {
        self.find(name).ok_or_else(|| ImageError::Invalid(format!("invalid archive: {name:?} is missing")))
    }

    /// As [`open`](Self::open), for what may be missing.
    pub(super) fn find(&self, name: &str) -> Option<Slice> {
        let mut name = normal(name.as_bytes(), "")?;
        for _ in 0..MAX_LINKS {
            match self.entries.get(&name)? {
                Entry::File { offset, size } => {
                    return Some(Slice { file: Arc::clone(&self.file), offset: *offset, left: *size });
                }
                Entry::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    /// Reads a small file of the archive.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let mut slice = self.open(name)?;
        if slice.len() > limit {
            return Err(ImageError::Invalid(format!("invalid archive: {name:?} is larger than {limit} bytes")));
        }
        // A few bytes can ask for the same file again and again.
        let left = self.budget.get().checked_sub(slice.len());
        self.budget.set(left.ok_or_else(|| ImageError::Invalid("invalid archive: too many descriptions".to_owned()))?);
        let mut bytes = Vec::new();
        slice.read_to_end(&mut bytes).map_err(|e| ImageError::Invalid(format!("invalid archive: {name:?}: {e}")))?;
        Ok(bytes)
    }
}

/// `path`, taken from `dir`, without `.` and `..`; nothing if it leads outside or is absolute.
fn normal(path: &[u8], dir: &str) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tarball(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Result<Tarball> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        let bytes = builder.into_inner().expect("an archive");
        let mut file = tempfile::tempfile().expect("a file");
        io::Write::write_all(&mut file, &bytes).expect("write");
        io::Seek::rewind(&mut file).expect("rewind");
        Tarball::index(file)
    }

    fn add(builder: &mut tar::Builder<Vec<u8>>, name: &str, content: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let slot = &mut header.as_gnu_mut().expect("gnu").name;
        slot[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, content.as_bytes()).expect("append");
    }

    fn link(builder: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(kind);
        builder.append_link(&mut header, name, target).expect("append");
    }

    #[test]
    fn links_lead_to_names_in_the_archive_or_nowhere() {
        let tarball = tarball(|b| {
            add(b, "./a/layer.tar", "layer");
            link(b, tar::EntryType::Symlink, "b/layer.tar", "../a/layer.tar");
            link(b, tar::EntryType::Link, "c/layer.tar", "a/layer.tar");
            link(b, tar::EntryType::Symlink, "d", "../../etc/passwd");
            link(b, tar::EntryType::Symlink, "e", "/etc/passwd");
            link(b, tar::EntryType::Symlink, "f", "f");
        })
        .expect("an archive");
        for good in ["a/layer.tar", "./a/layer.tar", "b/layer.tar", "c/layer.tar", "x/../a//layer.tar"] {
            assert_eq!(tarball.read(good, 100).expect(good), b"layer", "{good}");
        }
        for bad in ["d", "e", "f", "g", "/etc/passwd", "../a/layer.tar", "a"] {
            assert!(tarball.find(bad).is_none(), "{bad}");
        }
        assert!(tarball.read("a/layer.tar", 4).is_err());
    }

    #[test]
    fn names_outside_are_refused() {
        for bad in ["../x", "a/../../x", "/x"] {
            let error = tarball(|b| add(b, bad, "")).expect_err(bad);
            assert!(error.to_string().ends_with("is outside the archive"), "{error}");
        }
    }

    #[test]
    fn cut_archives_are_refused() {
        let mut builder = tar::Builder::new(Vec::new());
        add(&mut builder, "a", &"x".repeat(2000));
        let bytes = builder.into_inner().expect("an archive");
        for length in [100, 700, 1500] {
            let mut file = tempfile::tempfile().expect("a file");
            io::Write::write_all(&mut file, &bytes[..length]).expect("write");
            io::Seek::rewind(&mut file).expect("rewind");
            let refused = match Tarball::index(file) {
                Err(_) => true,
                Ok(tarball) => tarball.read("a", 9999).is_err(),
            };
            assert!(refused, "cut at {length}");
        }
    }
}

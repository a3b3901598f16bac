//! A tar archive of images, as a directory in memory that points into one file.
//!
//! Nothing is ever unpacked: names in the archive don't become names on disk. A link in the archive leads to another
//! name in the archive, or nowhere. The file has no name either, so a crash leaves nothing behind.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::super::{ImageError, Result};

/// The most entries that an archive of images may have.
const MAX_ENTRIES: usize = 100_000;
/// The longest chain of links.
const MAX_LINKS: usize = 16;

/// The archive.
#[derive(Debug)]
pub(super) struct Tarball {
    file: Arc<File>,
    entries: HashMap<String, Entry>,
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
        let mut entries = HashMap::new();
        let mut archive = tar::Archive::new(BufReader::new(&*file));
        let broken = |e: io::Error| ImageError::Invalid(format!("invalid archive: {e}"));
        for (count, entry) in archive.entries_with_seek().map_err(broken)?.enumerate() {
            if count >= MAX_ENTRIES {
                return Err(ImageError::Invalid(format!("invalid archive: more than {MAX_ENTRIES} entries")));
            }
            let entry = entry.map_err(broken)?;
            let Some(name) = normal(&entry.path_bytes(), "") else {
                let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                return Err(ImageError::Invalid(format!("invalid archive: entry {name:?} is outside the archive")));
            };
            let link = || entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
            let kind = entry.header().entry_type();
            let found = if kind.is_file() || kind.is_contiguous() {
                Some(Entry::File { offset: entry.raw_file_position(), size: entry.size() })
            } else if kind.is_symlink() {
                let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
                normal(&link(), dir).map(Entry::Link)
            } else if kind.is_hard_link() {
                normal(&link(), "").map(Entry::Link)
            } else {
                None
            };
            match found {
                Some(found) => entries.insert(name, found),
                // What was there under this name before is hidden by it.
                None => entries.remove(&name),
            };
        }
        Ok(Tarball { file, entries })
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

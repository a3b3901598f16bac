//! The digest of what a step reads of a tree. It covers paths, types, modes, owners, extended attributes, link targets and contents,
//! and no times: a file that was only touched is the same file.
//!
//! Reading 20 000 files for each build would take longer than building. A file's own digest is remembered with what
//! `stat(2)` says of the file; one whose change time, size, inode or mode is another is read again. The change time can't be set by
//! programs, and what was changed too recently for it to tell is not remembered. Layers never change: there the whole digest is
//! remembered.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use skep_build::BuildError;
use skep_build::worker::{Selection, Tree};
use skep_dockerfile::ignore::Matcher;
use skep_fs::Root;
use skep_registry::digest_of;
use skep_types::Digest;

use super::error::failed;
use super::files::{Place, exclusion, expand, is_pattern, names, not_found, open_dir, stat_at};
use super::paths::locate;

/// Digests of files that are kept; about 100 bytes each.
const FILES_KEPT: usize = 1 << 20;
/// Digests of selections of layers that are kept.
const SELECTIONS_KEPT: usize = 4096;
/// How long after a change the change time may still stand for another change: the kernel's clock for it is coarse.
const SETTLED: u64 = 20_000_000;
const BUFFER: usize = 256 * 1024;

/// What is remembered.
#[derive(Default)]
pub(super) struct Digests {
    files: Mutex<HashMap<Identity, Digest>>,
    selections: Mutex<HashMap<String, Digest>>,
}

/// What makes a file the same file with the same content.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
    size: i64,
    changed: (i64, u64),
    mode: u32,
}

/// The digest of what is selected. Blocking.
pub(super) fn digest(digests: &Digests, tree: &Tree, root: &Root, selection: &Selection) -> Result<Digest, BuildError> {
    // Of layers and of what has an identity, nothing changes.
    let known = match tree {
        Tree::Layers(stack) => Some(format!("{stack:?} {selection:?}")),
        Tree::Dir(dir) => dir.identity.map(|identity| format!("{identity} {selection:?}")),
    };
    if let Some(found) = known.as_ref().and_then(|key| digests.selections.lock().get(key).copied()) {
        return Ok(found);
    }
    let digest = Walk::new(digests, root, &selection.exclude)?.all(selection)?;
    if let Some(key) = known {
        let mut kept = digests.selections.lock();
        if kept.len() >= SELECTIONS_KEPT {
            kept.clear();
        }
        kept.insert(key, digest);
    }
    Ok(digest)
}

struct Walk<'a> {
    digests: &'a Digests,
    root: &'a Root,
    exclude: Matcher,
    out: Vec<u8>,
    /// Names of files that have several, by inode: that two names are one file is part of the content.
    linked: HashMap<(u64, u64), u64>,
    buffer: Vec<u8>,
    now: u64,
}

impl<'a> Walk<'a> {
    fn new(digests: &'a Digests, root: &'a Root, exclude: &[String]) -> Result<Self, BuildError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let (exclude, linked) = (exclusion(exclude)?, HashMap::new());
        Ok(Walk { digests, root, exclude, out: Vec::new(), linked, buffer: Vec::new(), now })
    }

    fn leaves_out(&self, path: &Path) -> bool {
        !self.exclude.patterns().is_empty() && self.exclude.matches(&path.to_string_lossy())
    }

    fn all(mut self, selection: &Selection) -> Result<Digest, BuildError> {
        let everything = [String::from("/")];
        let paths = if selection.paths.is_empty() { &everything[..] } else { &selection.paths };
        for pattern in paths {
            let wild = selection.wildcards && is_pattern(pattern.as_bytes());
            let found = match wild {
                true => expand(self.root, pattern).map_err(failed(pattern))?,
                false => vec![PathBuf::from(pattern)],
            };
            for path in found {
                self.selected(&path, selection.follow, wild)?;
            }
        }
        Ok(digest_of(&self.out))
    }

    /// One path of the selection. Where it is isn't part of the digest, its last name is if a wildcard chose it: that is where it goes.
    fn selected(&mut self, path: &Path, follow: bool, wild: bool) -> Result<(), BuildError> {
        let fail = |error: io::Error| match rustix::io::Errno::from_io_error(&error) {
            Some(rustix::io::Errno::LOOP) => BuildError::invalid("too many links"),
            _ => failed(&path.to_string_lossy())(error),
        };
        let real = if follow {
            let found = locate(self.root, path).map_err(fail)?;
            found.stat.as_ref().ok_or_else(|| not_found(path))?;
            found.real
        } else {
            let above = locate(self.root, path.parent().unwrap_or(Path::new(""))).map_err(fail)?;
            above.stat.as_ref().ok_or_else(|| not_found(path))?;
            above.real.join(path.file_name().unwrap_or_default())
        };
        let name = path.file_name().unwrap_or_default();
        if wild {
            self.field(name.as_bytes());
        }
        let above = real.parent().unwrap_or(Path::new(""));
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        let dir = self.root.open_at(above, OFlags::RDONLY | OFlags::DIRECTORY, 0).map_err(fail)?;
        let place = Place { dir: &dir, name: real.file_name().unwrap_or(OsStr::new(".")) };
        let stat = stat_at(place).map_err(|error| match error {
            rustix::io::Errno::NOENT => not_found(path),
            error => fail(error.into()),
        })?;
        let start = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            PathBuf::new()
        } else {
            PathBuf::from(name)
        };
        self.entry(place, &start, &stat).map_err(fail)
    }

    fn entry(&mut self, place: Place<'_>, path: &Path, stat: &Stat) -> io::Result<()> {
        let out = !path.as_os_str().is_empty() && self.leaves_out(path);
        let kind = FileType::from_raw_mode(stat.st_mode);
        if out && (kind != FileType::Directory || !self.exclude.has_exceptions()) || kind == FileType::Socket {
            return Ok(());
        }
        if !out {
            self.field(path.as_os_str().as_bytes());
            for number in [stat.st_mode, stat.st_uid, stat.st_gid] {
                self.out.extend_from_slice(&number.to_le_bytes());
            }
            if kind != FileType::RegularFile {
                let attributes = attributes(place)?;
                self.field(&attributes);
            }
        }
        match kind {
            FileType::Directory => {
                let dir = open_dir(place)?;
                for name in names(&dir)? {
                    self.child(&dir, &name, path)?;
                }
            }
            FileType::RegularFile => {
                let digest = self.contents(place, stat)?;
                self.out.extend_from_slice(digest.as_bytes());
                if stat.st_nlink > 1 {
                    let next = self.linked.len() as u64;
                    let number = *self.linked.entry((stat.st_dev, stat.st_ino)).or_insert(next);
                    self.out.extend_from_slice(&number.to_le_bytes());
                }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(place.dir, place.name, Vec::new())?;
                self.field(target.as_bytes());
            }
            _ => self.out.extend_from_slice(&stat.st_rdev.to_le_bytes()),
        }
        Ok(())
    }

    fn child(&mut self, dir: &OwnedFd, name: &OsStr, path: &Path) -> io::Result<()> {
        let place = Place { dir, name };
        let stat = stat_at(place)?;
        self.entry(place, &path.join(name), &stat)
    }

    /// The digest of a file's attributes and contents, remembered or read.
    fn contents(&mut self, place: Place<'_>, stat: &Stat) -> io::Result<Digest> {
        let changed = (stat.st_ctime, stat.st_ctime_nsec);
        let identity =
            Identity { device: stat.st_dev, inode: stat.st_ino, size: stat.st_size, changed, mode: stat.st_mode };
        if let Some(digest) = self.digests.files.lock().get(&identity) {
            return Ok(*digest);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(place.dir, place.name, flags, Mode::empty())?);
        self.buffer.resize(BUFFER, 0);
        let mut hasher = skep_store::Sha256::default();
        hasher.update(&attributes(place)?);
        loop {
            let count = file.read(&mut self.buffer)?;
            if count == 0 {
                break;
            }
            hasher.update(&self.buffer[..count]);
        }
        let digest = hasher.finish();
        let at = u64::try_from(changed.0).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(changed.1);
        if at.saturating_add(SETTLED) < self.now {
            let mut kept = self.digests.files.lock();
            if kept.len() >= FILES_KEPT {
                kept.clear();
            }
            kept.insert(identity, digest);
        }
        Ok(digest)
    }

    /// A text, so that two of them can't be taken for one.
    fn field(&mut self, bytes: &[u8]) {
        field(&mut self.out, bytes);
    }
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The attributes that belong to a file wherever it is, and how many bytes they take.
fn attributes(place: Place<'_>) -> io::Result<Vec<u8>> {
    let mut found = Vec::new();
    for key in skep_sys::xattr::list_at(place.dir, place.name)? {
        let key = key.to_bytes();
        if key != b"security.capability" && !key.starts_with(b"user.") {
            continue;
        }
        if let Some(value) = skep_sys::xattr::get_at(place.dir, place.name, OsStr::from_bytes(key))? {
            field(&mut found, key);
            field(&mut found, &value);
        }
    }
    let mut whole = Vec::new();
    field(&mut whole, &found);
    Ok(whole)
}

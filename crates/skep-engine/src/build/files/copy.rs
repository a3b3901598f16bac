//! A tree of files copied into another, by descriptors: no name is looked up twice, and no link is followed below the start.
//!
//! What a copy means is BuildKit's: a directory that is there stays and is filled, and below the top takes the source's mode, owner
//! and times; anything else that is there is replaced, unless one of the two is a directory and the other isn't. Modification
//! times are the source's. Hard links among the copied files stay hard links; holes stay holes.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::owner::Owned;
use skep_build::graph;
use skep_dockerfile::ignore::Matcher;
use tokio_util::sync::CancellationToken;

/// The deepest tree that is copied: two descriptors are held for each level.
const DEPTH_MAX: usize = 400;
const BUFFER: usize = 128 * 1024;

/// Why a tree can't be copied.
#[derive(Debug, thiserror::Error)]
pub(in crate::build) enum CopyError {
    #[error("cannot copy to non-directory: {}", .0.display())]
    NotADirectory(PathBuf),
    #[error("cannot replace to directory {} with file", .0.display())]
    Directory(PathBuf),
    #[error(transparent)]
    Mode(#[from] super::mode::BadMode),
    #[error("context canceled")]
    Cancelled,
    #[error("copy {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// What copied files become.
#[derive(Debug)]
pub(super) struct Wishes {
    pub(super) owner: Owned,
    pub(super) mode: graph::Mode,
    pub(super) exclude: Matcher,
    /// Nobody wants the copy any more.
    pub(super) stop: CancellationToken,
}

impl Wishes {
    /// What is copied stays as it is.
    pub(super) fn verbatim() -> Self {
        let (owner, mode) = (Owned::AsBefore, graph::Mode::Keep);
        Wishes { owner, mode, exclude: Matcher::default(), stop: CancellationToken::new() }
    }
}

/// Copies trees into one root.
pub(in crate::build) struct Copier<'a> {
    wishes: &'a Wishes,
    /// What the destination is relative to, for hard links: its top.
    top: &'a OwnedFd,
    /// Where files with several names were copied to.
    linked: HashMap<(u64, u64), PathBuf>,
    buffer: Vec<u8>,
}

/// A place in a tree: an open directory and a name in it.
#[derive(Clone, Copy)]
pub(in crate::build) struct Place<'a> {
    pub(in crate::build) dir: &'a OwnedFd,
    pub(in crate::build) name: &'a OsStr,
}

/// Owner, mode and times.
struct Facts {
    uid: Uid,
    gid: Gid,
    mode: Mode,
    times: Timestamps,
}

/// What is known of the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::build) enum Existing {
    /// A directory that is there keeps its metadata.
    Kept,
    /// A directory that is there gets the metadata of the one that is copied on it.
    Overwritten,
    /// There is nothing, as the directory above was just made.
    Absent,
}

impl<'a> Copier<'a> {
    /// `top` is the destination's root.
    pub(super) fn new(wishes: &'a Wishes, top: &'a OwnedFd) -> Self {
        Copier { wishes, top, linked: HashMap::new(), buffer: Vec::new() }
    }

    /// Copies what is at `from` to `to`. `path` is where that is below the source (for patterns), `target` below the destination.
    pub(in crate::build) fn copy(
        &mut self,
        from: Place<'_>,
        to: Place<'_>,
        (path, target): (&Path, &Path),
        existing: Existing,
    ) -> Result<(), CopyError> {
        let fail = |error: io::Error| CopyError::Io { path: path.to_owned(), source: error };
        if self.wishes.stop.is_cancelled() {
            return Err(CopyError::Cancelled);
        }
        let stat = stat_at(from).map_err(|error| fail(error.into()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let out = !path.as_os_str().is_empty() && self.leaves_out(path);
        if kind == FileType::Directory {
            if out && !self.wishes.exclude.has_exceptions() {
                return Ok(());
            }
            return self.directory(from, to, (path, target), &stat, if out { None } else { Some(existing) });
        }
        if out {
            return Ok(());
        }
        if existing != Existing::Absent {
            make_room(to, target)?;
        }
        if stat.st_nlink > 1 && kind != FileType::Socket {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.linked.get(&key) {
                let linked = rustix::fs::linkat(self.top, first, to.dir, to.name, AtFlags::empty());
                return linked.map_err(|error| fail(error.into()));
            }
            self.linked.insert(key, target.to_owned());
        }
        self.one(from, to, kind, &stat, path)
    }

    fn leaves_out(&self, path: &Path) -> bool {
        !self.wishes.exclude.patterns().is_empty() && self.wishes.exclude.matches(&path.to_string_lossy())
    }

    /// Anything but a directory.
    fn one(
        &mut self,
        from: Place<'_>,
        to: Place<'_>,
        kind: FileType,
        stat: &Stat,
        path: &Path,
    ) -> Result<(), CopyError> {
        let fail = |error: io::Error| CopyError::Io { path: path.to_owned(), source: error };
        match kind {
            FileType::RegularFile => {
                let (source, file) = self.data(from, to, stat).map_err(fail)?;
                self.finish((from, &source), (to, &file), stat, path)
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(from.dir, from.name, Vec::new()).map_err(|e| fail(e.into()))?;
                rustix::fs::symlinkat(link, to.dir, to.name).map_err(|e| fail(e.into()))?;
                self.describe(from, to, None, stat, path)
            }
            FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                let made = rustix::fs::mknodat(to.dir, to.name, kind, Mode::from_raw_mode(0o600), stat.st_rdev);
                made.map_err(|error| fail(error.into()))?;
                self.describe(from, to, None, stat, path)
            }
            // Whoever listened there doesn't come along.
            _ => Ok(()),
        }
    }

    /// A directory; `existing` is missing for one that is left out itself, while things in it may be wanted.
    fn directory(
        &mut self,
        from: Place<'_>,
        to: Place<'_>,
        (path, target): (&Path, &Path),
        stat: &Stat,
        existing: Option<Existing>,
    ) -> Result<(), CopyError> {
        let fail = |error: io::Error| CopyError::Io { path: path.to_owned(), source: error };
        if path.components().count() > DEPTH_MAX {
            return Err(fail(Errno::NAMETOOLONG.into()));
        }
        let source = open_dir(from).map_err(|error| fail(error.into()))?;
        let names = names(&source).map_err(fail)?;
        let Some(existing) = existing else {
            if self.exceptions(&source, &names, to, (path, target))? {
                let made = open_dir(to).map_err(|error| fail(error.into()))?;
                self.describe(from, to, Some(&File::from(made)), stat, path)?;
            }
            return Ok(());
        };
        let created = match rustix::fs::mkdirat(to.dir, to.name, Mode::from_raw_mode(0o700)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(fail(error.into())),
        };
        let destination = match open_dir(to) {
            Ok(dir) => dir,
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(CopyError::NotADirectory(Path::new("/").join(target))),
            Err(error) => return Err(fail(error.into())),
        };
        for name in &names {
            let (below, under) = (path.join(name), target.join(name));
            let (from, to) = (Place { dir: &source, name }, Place { dir: &destination, name });
            self.copy(from, to, (&below, &under), if created { Existing::Absent } else { Existing::Overwritten })?;
        }
        // Last, as making files in it changes its time; which is the source's in any case.
        if created || existing == Existing::Overwritten {
            return self.describe(from, to, Some(&File::from(destination)), stat, path);
        }
        rustix::fs::futimens(&destination, &times_of(stat)).map_err(|error| fail(error.into()))
    }

    /// What is wanted of a directory that is left out: it is only made if there is something. Tells whether it was.
    fn exceptions(
        &mut self,
        source: &OwnedFd,
        names: &[OsString],
        to: Place<'_>,
        (path, target): (&Path, &Path),
    ) -> Result<bool, CopyError> {
        let fail = |error: io::Error| CopyError::Io { path: path.to_owned(), source: error };
        let mut made = false;
        for name in names {
            let below = path.join(name);
            let from = Place { dir: source, name };
            let stat = stat_at(from).map_err(|error| fail(error.into()))?;
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if !is_dir && self.leaves_out(&below) {
                continue;
            }
            if is_dir && !self.has_wanted(from, &below).map_err(fail)? {
                continue;
            }
            match rustix::fs::mkdirat(to.dir, to.name, Mode::from_raw_mode(0o755)) {
                Ok(()) => made = true,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(fail(error.into())),
            }
            let destination = open_dir(to).map_err(|error| fail(error.into()))?;
            self.copy(from, Place { dir: &destination, name }, (&below, &target.join(name)), Existing::Overwritten)?;
        }
        Ok(made)
    }

    /// Whether anything of a directory is wanted.
    fn has_wanted(&self, at: Place<'_>, path: &Path) -> io::Result<bool> {
        if !self.leaves_out(path) {
            return Ok(true);
        }
        let dir = open_dir(at)?;
        for name in names(&dir)? {
            let below = path.join(&name);
            let place = Place { dir: &dir, name: &name };
            let wanted = match FileType::from_raw_mode(stat_at(place)?.st_mode) {
                FileType::Directory => self.has_wanted(place, &below)?,
                _ => !self.leaves_out(&below),
            };
            if wanted {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A file, and a new one with its contents.
    fn data(&mut self, from: Place<'_>, to: Place<'_>, stat: &Stat) -> io::Result<(File, File)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let source = File::from(rustix::fs::openat(from.dir, from.name, flags, Mode::empty())?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The mode that it will nearly always have, if the process's mask lets it.
        let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
        let mut file = File::from(rustix::fs::openat(to.dir, to.name, flags, mode)?);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size > BUFFER as u64 && rustix::fs::ioctl_ficlone(&file, &source).is_ok() {
            return Ok((source, file));
        }
        if u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < size {
            sparse(&source, &file, size, self.buffer())?;
        } else if size <= BUFFER as u64 {
            small(&source, &mut file, size, self.buffer())?;
        } else {
            // The standard library lets the kernel copy where it can.
            io::copy(&mut &source, &mut file)?;
        }
        Ok((source, file))
    }

    fn buffer(&mut self) -> &mut [u8] {
        self.buffer.resize(BUFFER, 0);
        &mut self.buffer
    }

    /// Gives what was copied its owner, attributes, mode and time, in the order that the kernel wants: a change of owner takes
    /// set-user-ID bits and capabilities away, and every other change counts for the time.
    pub(in crate::build) fn describe(
        &self,
        from: Place<'_>,
        to: Place<'_>,
        file: Option<&File>,
        stat: &Stat,
        path: &Path,
    ) -> Result<(), CopyError> {
        let fail = |error: io::Error| CopyError::Io { path: path.to_owned(), source: error };
        let Facts { uid, gid, mode, times } = self.facts(stat)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let described = || -> io::Result<()> {
            match file {
                Some(file) => rustix::fs::fchown(file, Some(uid), Some(gid))?,
                None => rustix::fs::chownat(to.dir, to.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?,
            }
            attributes(from, to)?;
            match file {
                Some(file) => {
                    rustix::fs::fchmod(file, mode)?;
                    rustix::fs::futimens(file, &times)?;
                }
                None => {
                    if kind != FileType::Symlink {
                        rustix::fs::chmodat(to.dir, to.name, mode, AtFlags::empty())?;
                    }
                    rustix::fs::utimensat(to.dir, to.name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
                }
            }
            Ok(())
        };
        described().map_err(fail)
    }

    /// The same for a new regular file. Most have the right owner and mode already, and no attributes; each change of those
    /// costs more than to look.
    fn finish(
        &self,
        (from, source): (Place<'_>, &File),
        (to, file): (Place<'_>, &File),
        stat: &Stat,
        path: &Path,
    ) -> Result<(), CopyError> {
        let wanted = self.facts(stat)?;
        let described = || -> io::Result<()> {
            let made = rustix::fs::fstat(file)?;
            let owner_differs = (made.st_uid, made.st_gid) != (wanted.uid.as_raw(), wanted.gid.as_raw());
            if owner_differs {
                rustix::fs::fchown(file, Some(wanted.uid), Some(wanted.gid))?;
            }
            if skep_sys::xattr::has_any(source)? {
                attributes(from, to)?;
            }
            if owner_differs || Mode::from_raw_mode(made.st_mode) != wanted.mode {
                rustix::fs::fchmod(file, wanted.mode)?;
            }
            Ok(rustix::fs::futimens(file, &wanted.times)?)
        };
        described().map_err(|error| CopyError::Io { path: path.to_owned(), source: error })
    }

    /// What a copied file is to have.
    fn facts(&self, stat: &Stat) -> Result<Facts, CopyError> {
        let (uid, gid) = match self.wishes.owner {
            Owned::By(uid, gid) => (uid, gid),
            Owned::AsBefore => (stat.st_uid, stat.st_gid),
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let mode = match &self.wishes.mode {
            graph::Mode::Keep => stat.st_mode & 0o7777,
            graph::Mode::Octal(mode) => mode & 0o7777,
            graph::Mode::Symbolic(text) => super::mode::apply(text, stat.st_mode, is_dir)?,
        };
        let (uid, gid, mode) = (Uid::from_raw(uid), Gid::from_raw(gid), Mode::from_raw_mode(mode));
        Ok(Facts { uid, gid, mode, times: times_of(stat) })
    }
}

fn times_of(stat: &Stat) -> Timestamps {
    let modified = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() };
    Timestamps { last_access: modified, last_modification: modified }
}

/// The times of something made at a second since 1970.
pub(super) fn times_at(seconds: i64) -> Timestamps {
    let modified = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: modified, last_modification: modified }
}

/// Takes away what is in the place of something that isn't a directory.
fn make_room(to: Place<'_>, target: &Path) -> Result<(), CopyError> {
    match rustix::fs::unlinkat(to.dir, to.name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Err(CopyError::Directory(Path::new("/").join(target))),
        Err(error) => Err(CopyError::Io { path: target.to_owned(), source: error.into() }),
    }
}

/// Copies a file that fits in the buffer; one that has grown meanwhile as far as it was long.
fn small(source: &File, file: &mut File, size: u64, buffer: &mut [u8]) -> io::Result<()> {
    let (mut source, mut left) = (source, usize::try_from(size).unwrap_or(usize::MAX));
    while left > 0 {
        let want = left.min(buffer.len());
        let count = source.read(&mut buffer[..want])?;
        if count == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..count])?;
        left -= count;
    }
    Ok(())
}

/// Copies only what there is between the holes.
fn sparse(source: &File, file: &File, size: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut at = 0;
    while at < size {
        at = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(source, SeekFrom::Hole(at))?;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let count = source.read_at(&mut buffer[..want], at)?;
            if count == 0 {
                break;
            }
            file.write_all_at(&buffer[..count], at)?;
            at += count as u64;
        }
    }
    file.set_len(size)
}

/// Copies the attributes that belong to a file wherever it is: capabilities and what users set.
fn attributes(from: Place<'_>, to: Place<'_>) -> io::Result<()> {
    for key in skep_sys::xattr::list_at(from.dir, from.name)? {
        let key = key.to_bytes();
        let belongs = key == b"security.capability" || key.starts_with(b"user.");
        if belongs && let Some(value) = skep_sys::xattr::get_at(from.dir, from.name, OsStr::from_bytes(key))? {
            match skep_sys::xattr::set_at(to.dir, to.name, OsStr::from_bytes(key), &value) {
                // The file system keeps none of this sort.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                other => other?,
            }
        }
    }
    Ok(())
}

pub(in crate::build) fn stat_at(place: Place<'_>) -> Result<Stat, Errno> {
    rustix::fs::statat(place.dir, place.name, AtFlags::SYMLINK_NOFOLLOW)
}

pub(in crate::build) fn open_dir(place: Place<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(place.dir, place.name, flags, Mode::empty())
}

/// The names in a directory, in the order of their bytes.
pub(in crate::build) fn names(dir: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort();
    Ok(names)
}

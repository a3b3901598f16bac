//! A directory below which paths are resolved by the kernel, as if it were `/`.
//!
//! `openat2(2)` with `RESOLVE_IN_ROOT` does what a chroot would do: `..` stops at the root, absolute symbolic links
//! start at it, and no rename in the meantime changes that. `RESOLVE_NO_MAGICLINKS` keeps the links in `/proc` from
//! leading out. The engine uses this for every path that a user or an image names inside a container.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::owners::Owners;

/// How often a walk is tried again when the kernel says that a rename disturbed it (`EAGAIN`).
const WALK_TRIES: usize = 128;

/// An open directory that is `/` for everything resolved through it.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    /// What has to stay open for `dir` to be what it is.
    _kept: Option<OwnedFd>,
    /// Whose files are whose, if that is told from inside a user namespace.
    owners: Option<Owners>,
}

/// What is known of a file inside a root; the fields `docker cp` needs.
#[derive(Debug, Clone)]
pub struct PathStat {
    /// The last part of the path that was asked for.
    pub name: OsString,
    /// Size in bytes.
    pub size: u64,
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Owner and group.
    pub owner: (u32, u32),
    /// Where a symbolic link points, as written in it.
    pub link_target: Option<PathBuf>,
}

impl Root {
    /// Opens the directory `path` of the host.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root::from_fd(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
    }

    /// Takes a directory that is already open: a mount that is attached nowhere, `/proc/PID/root`.
    pub fn from_fd(dir: OwnedFd) -> Self {
        Root { dir, _kept: None, owners: None }
    }

    /// Keeps a descriptor open as long as the root: the namespace whose mounts are seen below it.
    #[must_use]
    pub fn keeping(self, kept: OwnedFd) -> Self {
        Root { _kept: Some(kept), ..self }
    }

    /// Takes owners for what they are called in a user namespace: those that archives name, those that are told.
    #[must_use]
    pub fn seen_by(self, owners: Option<Owners>) -> Self {
        Root { owners, ..self }
    }

    /// Whose files are whose, if not as the caller sees it.
    pub fn owners(&self) -> Option<&Owners> {
        self.owners.as_ref()
    }

    /// Opens `path` inside the root; symbolic links are followed within it (add `NOFOLLOW` to `flags` to stop at the
    /// last one). Absolute and relative paths mean the same.
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        resolve(self.as_fd(), path, flags, mode, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
            .map_err(Into::into)
    }

    /// Opens the directory that holds the last part of `path`, and says which name that is. The last part itself is
    /// not looked at; it is `.` for the root.
    pub fn parent(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let (parent, name) = split_last(path);
        let dir = self.open_at(&parent, OFlags::PATH | OFlags::DIRECTORY, 0)?;
        Ok((dir, name))
    }

    /// What `path` is. Its last part isn't followed when it is a symbolic link, unless the path ends in a slash or a dot.
    pub fn stat(&self, path: &Path) -> io::Result<PathStat> {
        let flags = if names_directory(path) { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        let file = self.open_at(path, flags, 0)?;
        let stat = rustix::fs::fstat(&file)?;
        let link_target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                Some(PathBuf::from(OsString::from_vec(rustix::fs::readlinkat(&file, c"", Vec::new())?.into_bytes())))
            }
            _ => None,
        };
        let name = match path.file_name() {
            Some(name) => name.to_owned(),
            None => OsString::from("/"),
        };
        Ok(PathStat {
            name,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode,
            mtime: modified(&stat),
            owner: match &self.owners {
                Some(owners) => owners.inside((stat.st_uid, stat.st_gid)),
                None => (stat.st_uid, stat.st_gid),
            },
            link_target,
        })
    }

    /// Reads a regular file of at most `limit` bytes. Anything else (FIFO, device, directory) and anything larger is an
    /// error, and opening it never blocks: the file belongs to an image.
    pub fn read_file(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let bytes = self.read_start(path, limit + 1)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than is read of such a file"));
        }
        Ok(bytes)
    }

    /// Reads the first `limit` bytes of a regular file, as [`Root::read_file`] does.
    pub fn read_start(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, 0)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut bytes = Vec::new();
        File::from(file).take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Makes the directory `path` and what is missing above it, with permission bits `mode` and owner `owner`, and
    /// opens it. Directories that were there stay as they are.
    pub fn make_dirs(&self, path: &Path, mode: u32, owner: (u32, u32)) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut so_far = PathBuf::new();
        let mut dir = self.open_at(Path::new("."), flags, 0)?;
        for name in path.components().filter_map(|part| match part {
            std::path::Component::Normal(name) => Some(name),
            std::path::Component::ParentDir => Some(OsStr::new("..")),
            _ => None,
        }) {
            so_far.push(name);
            dir = match self.open_at(&so_far, flags, 0) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_dir(dir.as_fd(), name, mode, owner)?;
                    self.open_at(&so_far, flags, 0)?
                }
                other => other?,
            };
        }
        Ok(dir)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// `mkdirat` with exact bits and owner, whatever the umask; a directory made meanwhile by someone else is fine.
fn make_dir(parent: BorrowedFd<'_>, name: &OsStr, mode: u32, owner: (u32, u32)) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode)) {
        Err(Errno::EXIST) => return Ok(()),
        other => other?,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    rustix::fs::fchown(&dir, Some(uid(owner.0)), Some(gid(owner.1)))?;
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))?;
    Ok(())
}

/// `openat2` below `root`, close-on-exec, tried again when a rename disturbed the walk.
pub(crate) fn resolve(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: u32,
    how: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(mode) } else { Mode::empty() };
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, how) {
            Err(Errno::AGAIN) if tries < WALK_TRIES => tries += 1,
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Whether the end of a path (`/`, `.` or `..`) says that a directory is meant.
fn names_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.is_empty() || bytes.ends_with(b"/") || matches!(bytes.rsplit(|byte| *byte == b'/').next(), Some(b"." | b".."))
}

/// A path's parent and last name; `(".", ".")` for a path without a last name.
fn split_last(path: &Path) -> (PathBuf, OsString) {
    if names_directory(path) && path.file_name().is_none() {
        return (path.to_owned(), OsString::from("."));
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => (parent.to_owned(), name.to_owned()),
        _ => (PathBuf::from("."), OsString::from(".")),
    }
}

pub(crate) fn modified(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

pub(crate) fn uid(id: u32) -> rustix::fs::Uid {
    rustix::fs::Uid::from_raw(id)
}

pub(crate) fn gid(id: u32) -> rustix::fs::Gid {
    rustix::fs::Gid::from_raw(id)
}

/// `fstatat` of one name, without following.
pub(crate) fn stat_name(dir: impl AsFd, name: &OsStr) -> Result<Stat, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

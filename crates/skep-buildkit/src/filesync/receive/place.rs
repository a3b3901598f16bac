//! Directories: held open on the way down, cleaned of what the sender doesn't have on the way up.

use std::ffi::{OsStr, OsString};
use std::iter::Peekable;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::super::{Stat, SyncError, mode, order};
use super::{Receiver, same};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory whose entries are being received.
pub(super) struct Level {
    /// Below the root, empty for it.
    pub(super) path: String,
    pub(super) dir: OwnedFd,
    /// Names that were here and have not been passed yet.
    left: Peekable<std::vec::IntoIter<OsString>>,
    /// The sender's time of it, if it has one.
    mtime: Option<i64>,
    /// Whether something in it was made or removed, or its time is another one.
    pub(super) changed: bool,
}

/// The time that a directory gets when nothing in it changes any more.
pub(super) struct Times {
    path: String,
    mtime: i64,
}

impl Level {
    pub(super) fn open_root(root: &OwnedFd) -> Result<Level, SyncError> {
        let dir = rustix::fs::openat(root, ".", DIRECTORY, Mode::empty()).map_err(SyncError::file("open", "/"))?;
        Level::new(String::new(), dir, None)
    }

    fn new(path: String, dir: OwnedFd, mtime: Option<i64>) -> Result<Level, SyncError> {
        let left = names(&dir).map_err(SyncError::file("list", &path))?.into_iter().peekable();
        Ok(Level { path, dir, left, mtime, changed: false })
    }

    /// Goes on to `name`, removing what comes before it unless `merge`. Returns what is there under that name.
    pub(super) fn advance(&mut self, name: &str, merge: bool) -> Result<Option<rustix::fs::Stat>, SyncError> {
        let wanted = OsStr::new(name);
        while let Some(old) = self.left.next_if(|old| old.as_os_str() < wanted) {
            self.remove_unless(merge, &old)?;
        }
        if self.left.next_if(|old| old == wanted).is_none() {
            return Ok(None);
        }
        match rustix::fs::statat(&self.dir, wanted, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(SyncError::file("stat", &join(&self.path, wanted))(errno)),
        }
    }

    fn remove_unless(&mut self, merge: bool, name: &OsStr) -> Result<(), SyncError> {
        if merge { Ok(()) } else { self.remove(name) }
    }

    /// Removes `name` with all below it.
    pub(super) fn remove(&mut self, name: &OsStr) -> Result<(), SyncError> {
        self.changed = true;
        skep_fs::tree::remove(&self.dir, name).map_err(|source| SyncError::File {
            doing: "remove",
            path: join(&self.path, name),
            source,
        })
    }
}

impl Receiver<'_> {
    /// Goes down into a directory, made if it isn't there.
    pub(super) fn directory(&mut self, stat: Stat, existing: Option<rustix::fs::Stat>) -> Result<(), SyncError> {
        let Some(level) = self.levels.last_mut() else { return Err(SyncError::CutShort) };
        let name = OsStr::new(order::split(&stat.path).1);
        let is_directory = |there: &rustix::fs::Stat| {
            rustix::fs::FileType::from_raw_mode(there.st_mode) == rustix::fs::FileType::Directory
        };
        let keep = existing.as_ref().is_some_and(is_directory);
        let same = keep && existing.as_ref().is_some_and(|there| same::is_same(level.dir.as_fd(), name, there, &stat));
        if !keep {
            if existing.is_some() {
                level.remove(name)?;
            }
            level.changed = true;
            rustix::fs::mkdirat(&level.dir, name, Mode::RWXU).map_err(SyncError::file("make directory", &stat.path))?;
        }
        let dir = rustix::fs::openat(&level.dir, name, DIRECTORY, Mode::empty())
            .map_err(SyncError::file("open", &stat.path))?;
        if !same {
            apply_metadata(&dir, &stat, keep)?;
        }
        let mut level = Level::new(stat.path, dir, Some(stat.mod_time))?;
        level.changed = !same
            || existing.is_none_or(|there| {
                (there.st_mtime, i64::try_from(there.st_mtime_nsec).unwrap_or(0)) != same::time(stat.mod_time)
            });
        self.levels.push(level);
        Ok(())
    }

    /// Leaves the deepest open directory.
    pub(super) fn leave(&mut self) -> Result<(), SyncError> {
        let Some(mut level) = self.levels.pop() else { return Ok(()) };
        while let Some(old) = level.left.next() {
            level.remove_unless(self.options.merge, &old)?;
        }
        if let (true, Some(mtime)) = (level.changed, level.mtime) {
            self.times.push(Times { path: level.path, mtime });
        }
        Ok(())
    }

    pub(super) fn set_times(&self, times: &Times) -> Result<(), SyncError> {
        let dir = beneath(&self.root, &times.path, DIRECTORY)?;
        rustix::fs::futimens(&dir, &timestamps(times.mtime)).map_err(SyncError::file("set time of", &times.path))
    }
}

/// Opens a path below the root that has no links in it.
pub(super) fn beneath(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, SyncError> {
    use rustix::fs::ResolveFlags;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { "." } else { path };
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other.map_err(SyncError::file("open", path)),
        }
    }
}

pub(super) fn timestamps(mtime: i64) -> Timestamps {
    let (tv_sec, tv_nsec) = same::time(mtime);
    let time = Timespec { tv_sec, tv_nsec };
    Timestamps { last_access: time, last_modification: time }
}

/// Owner, attributes and mode of an open file or directory, in the order in which none undoes another. Of something that was there
/// already, attributes that the sender doesn't have go.
pub(super) fn apply_metadata(file: &OwnedFd, stat: &Stat, was_there: bool) -> Result<(), SyncError> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.uid), rustix::fs::Gid::from_raw(stat.gid));
    rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(SyncError::file("change owner of", &stat.path))?;
    if was_there {
        for key in skep_sys::xattr::list_at(file, OsStr::new("")).unwrap_or_default() {
            if !stat.xattrs.contains_key(key.to_string_lossy().as_ref()) {
                let _ = rustix::fs::fremovexattr(file, key.as_c_str()); // as when setting
            }
        }
    }
    for (key, value) in &stat.xattrs {
        // A file system may not keep attributes of some sort. BuildKit goes on without.
        let _ = rustix::fs::fsetxattr(file, key.as_str(), value, rustix::fs::XattrFlags::empty());
    }
    let mode = Mode::from_raw_mode(mode::permissions(stat.mode));
    rustix::fs::fchmod(file, mode).map_err(SyncError::file("change mode of", &stat.path))
}

fn names(dir: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn join(path: &str, name: &OsStr) -> String {
    let name = String::from_utf8_lossy(name.as_bytes());
    if path.is_empty() { name.into_owned() } else { format!("{path}/{name}") }
}

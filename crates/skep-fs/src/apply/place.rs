//! Finding the directory an entry goes into, and making room for it there.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::{
    Applier, ApplyError, DIR_OVERHEAD, DirState, OPAQUE, OpenDir, Target, as_path, failed, join, real_path, text,
};
use crate::rooted::{resolve, stat_name};

/// What became of a thing that was in the way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// It is gone.
    Made,
    /// It was a whiteout and is gone: a directory in its place has to be opaque.
    WasWhiteout,
    /// It is a directory, and a directory is wanted.
    Merge,
}

impl Applier<'_> {
    /// Opens the directory `parts`, making what is missing, and hands it to `body`.
    pub(super) fn in_dir<T>(
        &mut self,
        parts: &[&[u8]],
        body: impl FnOnce(&mut Self, &OpenDir) -> Result<T, ApplyError>,
    ) -> Result<T, ApplyError> {
        let wanted = join(&self.base, parts);
        let open = match self.last.take() {
            Some((path, open)) if path == wanted => open,
            _ => self.open_dir(parts, &wanted)?,
        };
        let result = body(self, &open)?;
        // `body` changes names in this directory only, so the directory itself is still where it was.
        self.last = Some((wanted, open));
        Ok(result)
    }

    /// How paths are resolved: in a layer never into another file system.
    fn how(&self) -> ResolveFlags {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match self.target {
            Target::Layer(_) => how | ResolveFlags::NO_XDEV,
            Target::Tree(_) => how,
        }
    }

    fn open_dir(&mut self, parts: &[&[u8]], wanted: &[u8]) -> Result<OpenDir, ApplyError> {
        match self.try_open(wanted) {
            Ok(open) => Ok(open),
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_dirs(parts),
            Err(error) => Err(failed("open directory", wanted, error)),
        }
    }

    /// Opens a directory, and learns its real path: the one given, unless a link was on the way.
    pub(super) fn try_open(&self, path: &[u8]) -> Result<OpenDir, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let straight = self.how() | ResolveFlags::NO_SYMLINKS;
        match resolve(self.root.as_fd(), as_path(path), flags, 0, straight) {
            Ok(fd) => return Ok(OpenDir { fd, path: path.to_vec() }),
            Err(Errno::LOOP) => {}
            Err(error) => return Err(error),
        }
        let fd = resolve(self.root.as_fd(), as_path(path), flags, 0, self.how())?;
        let path = real_path(self.root, &fd).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(OpenDir { fd, path })
    }

    fn make_dirs(&mut self, parts: &[&[u8]]) -> Result<OpenDir, ApplyError> {
        let base = self.base.clone();
        let mut open = self.try_open(&base).map_err(|error| failed("open directory", &base, error))?;
        for &part in parts {
            let below = join(&open.path, &[part]);
            open = match self.try_open(&below) {
                Ok(found) => found,
                Err(error @ (Errno::NOENT | Errno::NOTDIR)) => self.imply_dir(&open, part, error)?,
                Err(error) => return Err(failed("open directory", &below, error)),
            };
        }
        Ok(open)
    }

    /// Makes a directory that no entry has described so far.
    fn imply_dir(&mut self, parent: &OpenDir, name: &[u8], why: Errno) -> Result<OpenDir, ApplyError> {
        let path = join(&parent.path, &[name]);
        let leaf = OsStr::from_bytes(name);
        let mut opaque = false;
        if why == Errno::NOTDIR {
            let stat = stat_name(&parent.fd, leaf).map_err(|error| failed("look at", &path, error))?;
            if !matches!(self.target, Target::Layer(_)) || !is_whiteout(&stat) {
                return Err(failed("open directory", &path, why));
            }
            rustix::fs::unlinkat(&parent.fd, leaf, AtFlags::empty())
                .map_err(|error| failed("replace", &path, error))?;
            opaque = true;
        }
        rustix::fs::mkdirat(&parent.fd, leaf, Mode::from_raw_mode(0o755))
            .map_err(|error| failed("make directory", &path, error))?;
        let fd = crate::tree::open_dir(&parent.fd, leaf).map_err(|error| failed("open directory", &path, error))?;
        let owner = match &self.target {
            Target::Tree(tree) => tree.owner.unwrap_or(tree.root_owner),
            Target::Layer(_) => (0, 0),
        };
        rustix::fs::fchown(&fd, Some(crate::rooted::uid(owner.0)), Some(crate::rooted::gid(owner.1)))
            .and_then(|()| rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)))
            .map_err(|error| failed("set owner and mode of", &path, error))?;
        if opaque {
            set_opaque(&fd, &path)?;
        }
        self.note_dir(path.clone(), DirState { implied: true, mtime: None })?;
        Ok(OpenDir { fd, path })
    }

    /// Clears the place of `name`, where something is. `dir_comes` says whether a directory is to be there.
    pub(super) fn make_room(&mut self, parent: &OpenDir, name: &[u8], dir_comes: DirComes) -> Result<Room, ApplyError> {
        let path = join(&parent.path, &[name]);
        let leaf = OsStr::from_bytes(name);
        let stat = match stat_name(&parent.fd, leaf) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Room::Made),
            Err(error) => return Err(failed("look at", &path, error)),
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_dir && dir_comes == DirComes::Yes {
            return Ok(Room::Merge);
        }
        match &mut self.target {
            Target::Layer(_) if is_whiteout(&stat) => {
                rustix::fs::unlinkat(&parent.fd, leaf, AtFlags::empty())
                    .map_err(|error| failed("replace", &path, error))?;
                return Ok(Room::WasWhiteout);
            }
            Target::Layer(layer) => {
                layer.keep(&parent.fd, leaf).map_err(|error| failed("replace", &path, error))?;
                if is_dir {
                    self.forget(&path);
                }
            }
            Target::Tree(options) => {
                let shown = || (text(&path), text(name));
                match (options.keep_directories, is_dir, dir_comes) {
                    (true, true, _) => return Err(refused(ApplyError::DirectoryByOther, shown())),
                    (true, false, DirComes::Yes) => return Err(refused(ApplyError::OtherByDirectory, shown())),
                    _ => {}
                }
                crate::tree::remove(&parent.fd, leaf).map_err(|error| failed("replace", &path, error))?;
                if is_dir {
                    self.forget(&path);
                }
            }
        }
        Ok(Room::Made)
    }

    /// Forgets a directory that was moved away, with all below it.
    fn forget(&mut self, path: &[u8]) {
        // What is below sorts between `path/` and `path0`, the byte after the slash.
        let (first, end) = ([path, b"/"].concat(), [path, b"0"].concat());
        let below: Vec<Vec<u8>> = self.dirs.range(first..end).map(|(name, _)| name.clone()).collect();
        for name in below.iter().map(Vec::as_slice).chain([path]) {
            if self.dirs.remove(name).is_some() {
                self.dirs_size -= DIR_OVERHEAD + name.len() as u64;
            }
        }
    }
}

/// Whether a directory is about to be made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DirComes {
    Yes,
    No,
}

fn refused(error: fn(String, String) -> ApplyError, (path, name): (String, String)) -> ApplyError {
    error(format!("/{path}"), name)
}

/// Whether a file is how overlayfs says that a name is gone.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(super) fn set_opaque(dir: &OwnedFd, path: &[u8]) -> Result<(), ApplyError> {
    skep_sys::xattr::set_at(dir, OsStr::new(""), OsStr::new(OPAQUE), b"y")
        .map_err(|error| failed("make opaque", path, error))
}

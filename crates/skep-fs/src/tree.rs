//! Trees of files as such: removal and disk usage. Both walk by descriptors and never leave the directory they start in.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::rooted::{Root, resolve, stat_name};

/// The names in a directory, sorted by bytes.
pub(crate) fn names(dir: impl AsFd) -> io::Result<Vec<OsString>> {
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

/// Opens a directory by one name, without following a symbolic link.
pub(crate) fn open_dir(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// Removes `name` in `dir`, whatever it is, with everything below it. What isn't there is no error. Mounts below make
/// it fail with `EBUSY`, and nothing on them is touched.
pub fn remove(dir: impl AsFd, name: &OsStr) -> io::Result<()> {
    let dir = dir.as_fd();
    // Parts of a tree that is deeper than the descriptors allowed are moved up beside its top, and wait here.
    let mut waiting = vec![name.to_owned()];
    while let Some(name) = waiting.pop() {
        remove_one(dir, &name, &mut waiting)?;
    }
    Ok(())
}

fn remove_one(dir: BorrowedFd<'_>, name: &OsStr, waiting: &mut Vec<OsString>) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    // A stack of open directories instead of recursion: depth is chosen by whoever made the tree.
    let mut stack = vec![Level::open(dir, name.to_owned())?];
    while let Some(level) = stack.last_mut() {
        match level.next_child()? {
            Some(child) => stack.push(child),
            None => {
                let Some(done) = stack.pop() else { break };
                let parent = stack.last().map_or(dir, |level| level.dir.as_fd());
                rustix::fs::unlinkat(parent, done.name.as_os_str(), AtFlags::REMOVEDIR)?;
            }
        }
        if stack.len() > DEPTH_MAX {
            waiting.extend(move_up(dir, &mut stack)?);
        }
    }
    Ok(())
}

/// Descriptors that a removal holds at most, and names of one directory that it holds at a time.
const DEPTH_MAX: usize = 256;
const NAMES_MAX: usize = 1024;

/// A directory that is being emptied.
struct Level {
    dir: OwnedFd,
    name: OsString,
    /// Some of the names in it.
    left: std::vec::IntoIter<OsString>,
}

impl Level {
    fn open(parent: impl AsFd, name: OsString) -> io::Result<Self> {
        Ok(Level { dir: open_below(parent, &name)?, name, left: Vec::new().into_iter() })
    }

    /// Removes what is in it up to the first directory that isn't empty, and returns that; nothing when it is empty.
    fn next_child(&mut self) -> io::Result<Option<Level>> {
        loop {
            let Some(name) = self.left.next() else {
                self.left = some_names(&self.dir)?.into_iter();
                if self.left.as_slice().is_empty() {
                    return Ok(None);
                }
                continue;
            };
            match rustix::fs::unlinkat(&self.dir, name.as_os_str(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
            match rustix::fs::unlinkat(&self.dir, name.as_os_str(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            return Level::open(&self.dir, name).map(Some);
        }
    }
}

/// A few names in a directory, in any order. What they name is gone before the next few are asked for.
fn some_names(dir: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
        if names.len() == NAMES_MAX {
            break;
        }
    }
    Ok(names)
}

/// Opens a directory by one name, unless something is mounted on it: that is another tree.
fn open_below(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    match resolve(parent.as_fd(), name.as_ref(), flags, 0, how) {
        Err(Errno::XDEV) => Err(Errno::BUSY),
        other => other,
    }
}

/// Moves the deepest open directory up beside the tree's top; its new name.
fn move_up(dir: impl AsFd, stack: &mut Vec<Level>) -> io::Result<Option<OsString>> {
    let (Some(deep), Some(parent)) = (stack.pop(), stack.last()) else { return Ok(None) };
    let moved = OsString::from(format!(".deep-{}", crate::atomic::random_name()));
    rustix::fs::renameat(&parent.dir, deep.name.as_os_str(), dir, moved.as_os_str())?;
    Ok(Some(moved))
}

/// What a tree takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sizes of all regular files and symbolic links, each counted once however many names it has (what Docker shows
    /// as size).
    pub bytes: u64,
    /// Bytes allocated on disk, directories included.
    pub disk: u64,
    /// Files of all sorts, the top excluded.
    pub inodes: u64,
}

/// Adds up a tree. Files that vanish during the walk are left out: a container may be running in it.
pub fn usage(root: &Root) -> io::Result<Usage> {
    let mut usage = Usage::default();
    let mut seen = HashSet::new();
    let top = open_dir(root, OsStr::new("."))?;
    let device = rustix::fs::fstat(&top)?.st_dev;
    // Paths below the root, not descriptors: the number of them that wait is not bounded.
    let mut waiting: Vec<OsString> = vec![OsString::from(".")];
    while let Some(path) = waiting.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let Ok(dir) = root.open_at(path.as_ref(), flags, 0) else { continue };
        for name in names(&dir)? {
            let Ok(stat) = stat_name(&dir, &name) else { continue };
            if stat.st_dev != device {
                continue;
            }
            count(&mut usage, &mut seen, &stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let mut below = path.as_bytes().to_vec();
                below.push(b'/');
                below.extend_from_slice(name.as_bytes());
                waiting.push(OsString::from_vec(below));
            }
        }
    }
    Ok(usage)
}

fn count(usage: &mut Usage, seen: &mut HashSet<(u64, u64)>, stat: &Stat) {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if stat.st_nlink > 1 && kind != FileType::Directory && !seen.insert((stat.st_dev, stat.st_ino)) {
        return;
    }
    usage.inodes += 1;
    usage.disk += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    if matches!(kind, FileType::RegularFile | FileType::Symlink) {
        usage.bytes += u64::try_from(stat.st_size).unwrap_or(0);
    }
}

/// Makes what is in `from` again in `to`, an empty directory of the same file system: directories anew with all that they are
/// described by, everything else as a second name of the same file. Overlayfs' marks come along.
pub fn link(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    link_level(from.as_fd(), to.as_fd(), 0)
}

fn link_level(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG.into());
    }
    let source = open_dir(from, OsStr::new("."))?;
    for name in names(&source)? {
        let stat = stat_name(&source, &name)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            rustix::fs::linkat(&source, name.as_os_str(), to, name.as_os_str(), AtFlags::empty())?;
            continue;
        }
        rustix::fs::mkdirat(to, name.as_os_str(), Mode::from_raw_mode(0o700))?;
        let (below, made) = (open_dir(&source, &name)?, open_dir(to, &name)?);
        link_level(below.as_fd(), made.as_fd(), depth + 1)?;
        rustix::fs::fchown(&made, Some(crate::rooted::uid(stat.st_uid)), Some(crate::rooted::gid(stat.st_gid)))?;
        for key in skep_sys::xattr::list_at(&below, OsStr::new(""))? {
            let key = OsStr::from_bytes(key.to_bytes());
            if let Some(value) = skep_sys::xattr::get_at(&below, OsStr::new(""), key)? {
                skep_sys::xattr::set_at(&made, OsStr::new(""), key, &value)?;
            }
        }
        rustix::fs::fchmod(&made, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        rustix::fs::futimens(&made, &crate::apply::times(crate::rooted::modified(&stat)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process in a container can make such a tree; the descriptors of a daemon are limited.
    #[test]
    fn a_tree_deeper_than_the_descriptors_goes() {
        let temporary = tempfile::tempdir().expect("tempdir");
        let top = Root::open(temporary.path()).expect("root");
        let mut dir = open_dir(&top, OsStr::new(".")).expect("open");
        for _ in 0..3000 {
            rustix::fs::mkdirat(&dir, "deep", Mode::from_raw_mode(0o755)).expect("mkdir");
            dir = open_dir(&dir, OsStr::new("deep")).expect("open");
        }
        drop(dir);
        std::os::unix::fs::symlink("/etc", temporary.path().join("deep/link")).expect("symlink");
        let most = std::sync::atomic::AtomicUsize::new(0);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                use std::sync::atomic::Ordering::Relaxed;
                while !done.load(Relaxed) {
                    let open = std::fs::read_dir("/proc/self/fd").expect("list").count();
                    most.fetch_max(open, Relaxed);
                }
            });
            let removed = remove(&top, OsStr::new("deep"));
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            removed.expect("remove");
        });
        assert_eq!(std::fs::read_dir(temporary.path()).expect("list").count(), 0);
        assert!(std::path::Path::new("/etc").exists());
        let most = most.into_inner();
        assert!(most < 2 * DEPTH_MAX + 100, "{most} descriptors were open");
    }

    #[test]
    fn many_directories_side_by_side_go() {
        let temporary = tempfile::tempdir().expect("tempdir");
        for number in 0..NAMES_MAX + 5 {
            std::fs::create_dir_all(temporary.path().join(format!("wide/{number}/x"))).expect("mkdir");
        }
        remove(Root::open(temporary.path()).expect("root"), OsStr::new("wide")).expect("remove");
        assert_eq!(std::fs::read_dir(temporary.path()).expect("list").count(), 0);
    }

    #[test]
    fn what_is_mounted_below_is_not_touched() {
        let temporary = tempfile::tempdir().expect("tempdir");
        let (inner, host) = (temporary.path().join("tree/mounted"), temporary.path().join("host"));
        std::fs::create_dir_all(&inner).expect("mkdir");
        std::fs::create_dir(&host).expect("mkdir");
        std::fs::write(host.join("canary"), b"alive").expect("write");
        rustix::mount::mount_bind(&host, &inner).expect("bind");
        let root = Root::open(temporary.path()).expect("root");
        let results = (
            remove(&root, OsStr::new("tree")),
            remove(Root::open(&temporary.path().join("tree")).expect("root"), OsStr::new("mounted")),
        );
        rustix::mount::unmount(&inner, rustix::mount::UnmountFlags::DETACH).expect("unmount");
        for result in [results.0, results.1] {
            assert_eq!(result.expect_err("busy").raw_os_error(), Some(Errno::BUSY.raw_os_error()));
        }
        assert!(host.join("canary").exists());
    }

    #[test]
    fn a_file_with_two_names_counts_once() {
        let temporary = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(temporary.path().join("d")).expect("mkdir");
        std::fs::write(temporary.path().join("d/a"), [0u8; 1000]).expect("write");
        std::fs::hard_link(temporary.path().join("d/a"), temporary.path().join("b")).expect("link");
        let usage = usage(&Root::open(temporary.path()).expect("root")).expect("usage");
        assert_eq!((usage.bytes, usage.inodes), (1000, 2));
    }
}

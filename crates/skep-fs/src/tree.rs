//! Trees of files as such: removal and disk usage. Both walk by descriptors and never leave the directory they start in.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::rooted::{Root, stat_name};

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
/// it fail with `EBUSY`, nothing on them is touched when they are mounted over a directory of another device.
pub fn remove(dir: impl AsFd, name: &OsStr) -> io::Result<()> {
    let dir = dir.as_fd();
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let device = stat_name(dir, name)?.st_dev;
    // A stack of open directories instead of recursion: depth is chosen by whoever made the tree.
    let mut stack = vec![(open_dir(dir, name)?, name.to_owned())];
    while let Some((open, _)) = stack.last() {
        match remove_children(open, device)? {
            Some((child, child_name)) => stack.push((child, child_name)),
            None => {
                let Some((_, done)) = stack.pop() else { break };
                let parent = stack.last().map_or(dir, |(open, _)| open.as_fd());
                rustix::fs::unlinkat(parent, done.as_os_str(), AtFlags::REMOVEDIR)?;
            }
        }
        if stack.len() > DEPTH_MAX {
            flatten(dir, &mut stack)?;
        }
    }
    Ok(())
}

/// Descriptors that a removal holds at most.
const DEPTH_MAX: usize = 256;

/// A tree deeper than the descriptors allowed: the deepest open directory is moved up beside the tree's top, and taken
/// from there.
fn flatten(dir: impl AsFd, stack: &mut Vec<(OwnedFd, OsString)>) -> io::Result<()> {
    let Some((open, name)) = stack.pop() else { return Ok(()) };
    let Some((parent, _)) = stack.last() else { return Ok(()) };
    let moved = OsString::from(format!(".deep-{}", crate::atomic::random_name()));
    rustix::fs::renameat(parent, name.as_os_str(), &dir, moved.as_os_str())?;
    drop(open);
    remove(dir, &moved)
}

/// Removes all that isn't a directory from an open directory; returns the first child directory that isn't empty.
fn remove_children(open: &OwnedFd, device: u64) -> io::Result<Option<(OwnedFd, OsString)>> {
    for name in names(open)? {
        match rustix::fs::unlinkat(open, name.as_os_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        match rustix::fs::unlinkat(open, name.as_os_str(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let child = open_dir(open, &name)?;
        if rustix::fs::fstat(&child)?.st_dev != device {
            return Err(Errno::BUSY.into());
        }
        return Ok(Some((child, name)));
    }
    Ok(None)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_the_descriptors_goes() {
        let temporary = tempfile::tempdir().expect("tempdir");
        let top = Root::open(temporary.path()).expect("root");
        let mut dir = open_dir(&top, OsStr::new(".")).expect("open");
        for _ in 0..700 {
            rustix::fs::mkdirat(&dir, "deep", Mode::from_raw_mode(0o755)).expect("mkdir");
            dir = open_dir(&dir, OsStr::new("deep")).expect("open");
        }
        std::os::unix::fs::symlink("/etc", temporary.path().join("deep/link")).expect("symlink");
        remove(&top, OsStr::new("deep")).expect("remove");
        assert_eq!(std::fs::read_dir(temporary.path()).expect("list").count(), 0);
        assert!(std::path::Path::new("/etc").exists());
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

//! Filling a new tmpfs with what was at its mount point (the option `tmpcopyup` of Podman and runc).

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, mkdirat, mknodat, openat,
    readlinkat, statat, symlinkat,
};

use super::error::{LaunchError, Result, Step};

/// How deep a tree may be: deeper ones are not what an image has at a mount point.
const DEPTH_MAX: usize = 64;

/// Copies the tree at `from` into the empty directory `to`: owners, modes, links and devices, no extended attributes.
pub(super) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    tree(from.as_fd(), to.as_fd(), 0)
}

fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(LaunchError::invalid("the tree to copy into the tmpfs is too deep"));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = openat(from, c".", flags, Mode::empty()).step("copy up")?;
    let to = openat(to, c".", flags, Mode::empty()).step("copy up")?;
    for entry in Dir::read_from(&from).step("copy up")? {
        let entry = entry.step("copy up")?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from.as_fd(), to.as_fd(), name, depth)?;
        }
    }
    let stat = rustix::fs::fstat(&from).step("copy up")?;
    own(&to, &stat)
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).step("copy up")?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match kind {
        FileType::Directory => {
            mkdirat(to, name, Mode::from_raw_mode(0o700)).step("copy up")?;
            let open = |at| openat(at, name, flags | OFlags::DIRECTORY, Mode::empty()).step("copy up");
            tree(open(from)?.as_fd(), open(to)?.as_fd(), depth + 1)
        }
        FileType::RegularFile => {
            let mut source = File::from(openat(from, name, flags, Mode::empty()).step("copy up")?);
            let create = flags | OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
            let mut target = File::from(openat(to, name, create, Mode::from_raw_mode(0o600)).step("copy up")?);
            std::io::copy(&mut source, &mut target).step("copy up")?;
            own(&target.into(), &stat)
        }
        FileType::Symlink => {
            let text = readlinkat(from, name, Vec::new()).step("copy up")?;
            symlinkat(text.as_c_str(), to, name).step("copy up")?;
            chownat(to, name, uid(&stat), gid(&stat), AtFlags::SYMLINK_NOFOLLOW).step("copy up")
        }
        _ => {
            mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev).step("copy up")?;
            chownat(to, name, uid(&stat), gid(&stat), AtFlags::SYMLINK_NOFOLLOW).step("copy up")
        }
    }
}

fn own(to: &OwnedFd, stat: &Stat) -> Result<()> {
    fchown(to, uid(stat), gid(stat)).step("copy up")?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777)).step("copy up")
}

fn uid(stat: &Stat) -> Option<Uid> {
    Some(Uid::from_raw(stat.st_uid))
}

fn gid(stat: &Stat) -> Option<Gid> {
    Some(Gid::from_raw(stat.st_gid))
}

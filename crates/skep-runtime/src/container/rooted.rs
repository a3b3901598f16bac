//! Paths inside a container's root: resolved by the kernel with `RESOLVE_IN_ROOT`, or component by component on descriptors where
//! something has to be made on the way. No link leads out, no magic link of procfs is followed, and nothing is ever looked up a
//! second time by its name.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, mkdirat, mknodat, openat, openat2, readlinkat};
use rustix::io::Errno;

/// The magic of procfs in statfs(2).
pub(super) const PROC_MAGIC: i64 = 0x9fa0;
/// The magic of devpts in statfs(2).
pub(super) const DEVPTS_MAGIC: i64 = 0x1cd1;

/// How many links one lookup follows, as in the kernel.
const LINKS_MAX: usize = 40;

/// What the last component is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// A directory.
    Directory,
    /// Anything else; an empty file if it has to be made.
    File,
}

/// Opens a path inside `root`.
pub(super) fn open(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_with(root.as_fd(), path, flags, ResolveFlags::empty())
}

/// Opens a path inside `root` none of whose components may be a link.
pub(super) fn open_without_links(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    open_with(root.as_fd(), path, flags, ResolveFlags::NO_SYMLINKS)
}

fn open_with(root: BorrowedFd<'_>, path: &Path, flags: OFlags, more: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    // EAGAIN: something was renamed while ".." was resolved.
    for _ in 0..256 {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens a path inside `root` with `O_PATH`, and makes what is missing: directories of mode 0755, an empty file at the end.
pub(super) fn ensure(root: impl AsFd, path: &Path, last: Last) -> Result<OwnedFd, Errno> {
    match open(&root, path, OFlags::PATH) {
        Err(Errno::NOENT) => walk(root.as_fd(), path, last),
        result => result,
    }
}

/// As [`ensure`], but no component may be a link.
pub(super) fn ensure_without_links(root: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    match open_without_links(&root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => {
            walk(root.as_fd(), path, Last::Directory)?;
            open_without_links(&root, path, OFlags::PATH | OFlags::DIRECTORY)
        }
        result => result,
    }
}

fn walk(root: BorrowedFd<'_>, path: &Path, last: Last) -> Result<OwnedFd, Errno> {
    let mut stack: Vec<OwnedFd> = Vec::new();
    let mut names = names_of(path);
    let mut links = 0;
    while let Some(name) = names.pop() {
        if name == ".." {
            stack.pop();
            continue;
        }
        let parent = stack.last().map_or(root, AsFd::as_fd);
        let found = open_or_make(parent, &name, if names.is_empty() { last } else { Last::Directory })?;
        match FileType::from_raw_mode(fstat(&found)?.st_mode) {
            FileType::Directory => stack.push(found),
            FileType::Symlink => {
                links += 1;
                if links > LINKS_MAX || magic_of(&found)? == PROC_MAGIC {
                    return Err(Errno::LOOP);
                }
                let target = OsString::from_vec(readlinkat(&found, c"", Vec::new())?.into_bytes());
                if Path::new(&target).is_absolute() {
                    stack.clear();
                }
                names.extend(names_of(Path::new(&target)));
            }
            _ if names.is_empty() => return Ok(found),
            _ => return Err(Errno::NOTDIR),
        }
    }
    match stack.pop() {
        Some(found) => Ok(found),
        None => openat(root, c".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()),
    }
}

/// The components of a path from the last to the first.
fn names_of(path: &Path) -> Vec<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

fn open_or_make(parent: BorrowedFd<'_>, name: &OsStr, kind: Last) -> Result<OwnedFd, Errno> {
    let open = || openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    let made = match kind {
        Last::Directory => mkdirat(parent, name, Mode::from_raw_mode(0o755)),
        Last::File => mknodat(parent, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0),
    };
    match made {
        Ok(()) | Err(Errno::EXIST) => open(),
        Err(error) => Err(error),
    }
}

/// The magic of the file system that a descriptor is on.
pub(super) fn magic_of(fd: impl AsFd) -> Result<i64, Errno> {
    Ok(fstatfs(fd)?.f_type)
}

/// Whether a descriptor is of a directory.
pub(super) fn is_directory(fd: impl AsFd) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> (Self, OwnedFd) {
            let path = std::env::temp_dir().join(format!("skep-rooted-{}-{name}", std::process::id()));
            fs::create_dir_all(path.join("root")).expect("a directory");
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(path.join("root"), flags, Mode::empty()).expect("a root");
            (Self(path), fd)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn links_out_of_the_root_stay_inside() {
        let (top, root) = Root::new("out");
        symlink("/etc", top.0.join("root/abs")).expect("link");
        symlink("../../../../../tmp/x", top.0.join("root/rel")).expect("link");
        ensure(&root, Path::new("/abs/passwd"), Last::File).expect("made");
        ensure(&root, Path::new("rel/y"), Last::Directory).expect("made");
        ensure(&root, Path::new("../../../up"), Last::Directory).expect("made");
        assert!(top.0.join("root/etc/passwd").is_file());
        assert!(top.0.join("root/tmp/x/y").is_dir());
        assert!(top.0.join("root/up").is_dir() && !top.0.join("up").exists());
    }

    #[test]
    fn dangling_links_are_filled_and_loops_refused() {
        let (top, root) = Root::new("dangling");
        fs::create_dir(top.0.join("root/etc")).expect("a directory");
        symlink("../run/resolve/stub.conf", top.0.join("root/etc/resolv.conf")).expect("link");
        ensure(&root, Path::new("/etc/resolv.conf"), Last::File).expect("made");
        assert!(top.0.join("root/run/resolve/stub.conf").is_file());
        symlink("b", top.0.join("root/a")).expect("link");
        symlink("a", top.0.join("root/b")).expect("link");
        assert_eq!(ensure(&root, Path::new("a/x"), Last::File).expect_err("a loop"), Errno::LOOP);
        fs::write(top.0.join("root/file"), "").expect("a file");
        assert_eq!(ensure(&root, Path::new("file/x"), Last::File).expect_err("a file"), Errno::NOTDIR);
        symlink("etc", top.0.join("root/link")).expect("link");
        assert_eq!(ensure_without_links(&root, Path::new("/link")).expect_err("a link"), Errno::LOOP);
    }

    #[test]
    fn magic_links_are_never_followed() {
        let host = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("the root");
        assert_eq!(open(&host, Path::new("/proc/self/fd/0"), OFlags::PATH).expect_err("magic"), Errno::LOOP);
        assert_eq!(open(&host, Path::new("/proc/self/cwd"), OFlags::PATH).expect_err("magic"), Errno::LOOP);
        let made = ensure(&host, Path::new("/proc/self/root/nothing/here"), Last::Directory);
        assert_eq!(made.expect_err("magic"), Errno::LOOP);
    }
}

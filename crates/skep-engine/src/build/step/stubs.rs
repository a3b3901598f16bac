//! Mount points that the base doesn't have. They are made in a layer of their own between the base and what the step writes, so that
//! none of them is left in the step's layer, and nothing has to be taken away afterwards.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use skep_fs::Root;
use skep_fs::apply::copy_metadata;

use super::super::paths::locate;

/// What a mount point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    Directory,
    File,
}

/// Makes those of `points` that `base` lacks below `stubs`, an empty directory. Tells whether there were any.
pub(super) fn make(base: &Root, stubs: &Path, points: &[(PathBuf, Point)]) -> std::io::Result<bool> {
    let mut any = false;
    for (at, (path, point)) in points.iter().enumerate() {
        // What is below another mount is made there.
        let covered = points
            .iter()
            .enumerate()
            .any(|(other, (above, _))| other != at && path != above && path.starts_with(above));
        if covered {
            continue;
        }
        if let Some(missing) = missing(base, path)? {
            any = true;
            place(base, stubs, &missing, *point)?;
        }
    }
    if any {
        copy_metadata(base, &Root::open(stubs)?)?;
    }
    Ok(any)
}

/// The real path of `path` in the base if it isn't there; links are followed, those that lead nowhere too.
fn missing(base: &Root, path: &Path) -> std::io::Result<Option<PathBuf>> {
    let found = locate(base, path)?;
    Ok(found.stat.is_none().then_some(found.real))
}

/// Makes `path` below `stubs`: directories that the base has look as they do there.
fn place(base: &Root, stubs: &Path, path: &Path, point: Point) -> std::io::Result<()> {
    let mut dir: OwnedFd = Root::open(stubs)?.open_at(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
    let mut so_far = PathBuf::new();
    let count = path.iter().count();
    for (at, name) in path.iter().enumerate() {
        so_far.push(name);
        if at + 1 == count && point == Point::File {
            return make_file(dir.as_fd(), name);
        }
        let made = rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755));
        if made != Err(Errno::EXIST) {
            made?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        dir = rustix::fs::openat(&dir, name, flags, Mode::empty())?;
        let before = base.open_at(&so_far, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0);
        match before {
            Ok(before) => copy_metadata(&Root::from_fd(before), &Root::from_fd(dir.try_clone()?))?,
            Err(_) if made.is_ok() => rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755))?,
            Err(_) => {}
        }
    }
    Ok(())
}

fn make_file(dir: impl AsFd, name: &OsStr) -> std::io::Result<()> {
    match rustix::fs::mknodat(&dir, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0) {
        Ok(()) => Ok(rustix::fs::chmodat(&dir, name, Mode::from_raw_mode(0o644), AtFlags::empty())?),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_what_is_missing_is_made_and_links_are_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (base, stubs) = (dir.path().join("base"), dir.path().join("stubs"));
        for path in [&base.join("etc"), &stubs] {
            std::fs::create_dir_all(path).expect("a directory");
        }
        std::fs::set_permissions(base.join("etc"), std::fs::Permissions::from_mode(0o750)).expect("a mode");
        std::fs::write(base.join("etc/hosts"), "").expect("a file");
        symlink("../run/resolve/stub.conf", base.join("etc/resolv.conf")).expect("a link");
        let root = Root::open(&base).expect("a root");
        let points = [("/etc/hosts", Point::File), ("/etc/resolv.conf", Point::File), ("/proc", Point::Directory)];
        let more = [("/proc/x", Point::Directory), ("/etc/new/cache", Point::Directory)];
        let points: Vec<_> = points.into_iter().chain(more).map(|(path, point)| (PathBuf::from(path), point)).collect();
        assert!(make(&root, &stubs, &points).expect("made"));
        assert!(stubs.join("run/resolve/stub.conf").is_file() && stubs.join("proc").is_dir());
        assert!(stubs.join("etc/new/cache").is_dir());
        assert!(!stubs.join("etc/hosts").exists() && !stubs.join("proc/x").exists());
        let mode = std::fs::metadata(stubs.join("etc")).expect("etc").permissions().mode();
        assert_eq!(mode & 0o7777, 0o750, "as in the base");
        assert!(!make(&root, &stubs, &points[..1]).expect("nothing to do"));
    }
}

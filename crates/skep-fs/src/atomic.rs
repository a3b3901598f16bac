//! Replacing a file so that a crash leaves either the old content or the new, never a part.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

/// Writes `bytes` to `path` with permission bits `mode`: temporary file beside it, `fsync`, `rename`, `fsync` of the
/// directory. A file that was there is replaced, a symbolic link too.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    write_file_at(open_dir(parent)?, Path::new(name), bytes, mode)
}

/// As [`write_file`], with the directory open already. `name` is a single name.
pub fn write_file_at(dir: impl AsFd, name: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = dir.as_fd();
    let temporary = format!(".{}.tmp", random_name());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(rustix::fs::openat(dir, &temporary, flags, Mode::from_raw_mode(0o600))?);
    let written = write_through(&mut file, bytes, mode)
        .and_then(|()| Ok(rustix::fs::renameat(dir, &temporary, dir, name)?))
        .and_then(|()| sync_dir_fd(dir));
    if written.is_err() {
        // The first error tells what happened; a temporary file that can't be removed adds nothing to it.
        let _ = rustix::fs::unlinkat(dir, &temporary, AtFlags::empty());
    }
    written
}

fn write_through(file: &mut File, bytes: &[u8], mode: u32) -> io::Result<()> {
    file.write_all(bytes)?;
    rustix::fs::fchmod(&*file, Mode::from_raw_mode(mode))?;
    file.sync_all()
}

/// Makes the names in a directory durable.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    sync_dir_fd(open_dir(path)?.as_fd())
}

fn sync_dir_fd(dir: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fsync(dir)?)
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A name of 13 letters and digits that nobody can guess and no other call will draw (65 bits).
pub fn random_name() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut bytes = [0u8; 13];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            // Only a kernel older than 3.17 has no getrandom; it has no openat2 either, so nothing else here works.
            Err(error) => unreachable!("getrandom: {error}"),
        }
    }
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_stays() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("f");
        write_file(&path, b"one", 0o640).expect("first");
        std::fs::remove_file(&path).expect("remove");
        std::os::unix::fs::symlink("/nowhere", &path).expect("symlink");
        write_file(&path, b"two", 0o600).expect("second");
        assert_eq!(std::fs::read(&path).expect("read"), b"two");
        assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_failure_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(dir.path().join("d")).expect("mkdir");
        assert!(write_file(&dir.path().join("d"), b"x", 0o600).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
    }
}

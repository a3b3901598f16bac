//! Single files made and removed, at just the place that is said: what a client's own steps ask for. Directories above have to be there.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use skep_build::BuildError;
use skep_types::ErrorKind;

use super::owner::Owned;
use super::{Target, copy, directory_of, expand, is_pattern, locate, located, split};
use crate::build::error::failed;

impl Target {
    /// The directory that a path's last part is in; BuildKit follows links on the way, and the last one too if `follow`.
    fn place(&self, path: &Path, follow: bool) -> Result<(OwnedFd, PathBuf), BuildError> {
        let real = match (follow, path.file_name()) {
            (false, Some(name)) => located(&self.root, path.parent().unwrap_or(Path::new("/")))?.join(name),
            _ => located(&self.root, path)?,
        };
        let dir = directory_of(&self.root, split(&real).0)?;
        Ok((dir, real))
    }

    /// Makes one directory; one that is there stays as it is.
    pub(super) fn make_dir(&self, path: &Path, mode: u32, owner: Owned) -> Result<(), BuildError> {
        let (dir, real) = self.place(path, true)?;
        let name = split(&real).1;
        let fail = |error: Errno| failed(&format!("mkdir {}", path.display()))(error.into());
        match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(mode)) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(()),
            Err(error) => return Err(fail(error)),
        }
        let made = copy::open_dir(copy::Place { dir: &dir, name }).map_err(fail)?;
        self.finish(&File::from(made), mode, owner).map_err(fail)
    }

    /// Makes a file, or gives one that is there another content.
    pub(super) fn make_file(&self, path: &Path, data: &[u8], mode: u32, owner: Owned) -> Result<(), BuildError> {
        let (dir, real) = self.place(path, true)?;
        let fail = |error: std::io::Error| failed(&format!("open {}", path.display()))(error);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, split(&real).1, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(file.map_err(|error| fail(error.into()))?);
        file.write_all(data).map_err(fail)?;
        self.finish(&file, mode, owner).map_err(|error| fail(error.into()))
    }

    /// Makes a symbolic link where nothing is.
    pub(super) fn make_link(&self, path: &Path, target: &str, owner: Owned) -> Result<(), BuildError> {
        let (dir, real) = self.place(path, false)?;
        let name = split(&real).1;
        let make = || -> Result<(), Errno> {
            rustix::fs::symlinkat(target, &dir, name)?;
            let (uid, gid) = owner.or_root();
            rustix::fs::chownat(
                &dir,
                name,
                Some(Uid::from_raw(uid)),
                Some(Gid::from_raw(gid)),
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
            let time = self.time.map(copy::times_at);
            time.map_or(Ok(()), |time| rustix::fs::utimensat(&dir, name, &time, AtFlags::SYMLINK_NOFOLLOW))
        };
        make().map_err(|error| failed(&format!("symlink {target} {}", path.display()))(error.into()))
    }

    /// Removes what is at a path, or what fits a pattern, with all below it.
    pub(super) fn remove(&self, path: &str, wildcards: bool, required: bool) -> Result<(), BuildError> {
        let wild = wildcards && is_pattern(path.as_bytes());
        let found = match wild {
            true => expand(&self.root, path).map_err(failed(path))?,
            false => vec![PathBuf::from(path)],
        };
        for one in found {
            if one.file_name().is_none() {
                return Err(BuildError::invalid("rm: invalid empty path"));
            }
            self.remove_one(&one, required)?;
        }
        Ok(())
    }

    fn remove_one(&self, path: &Path, required: bool) -> Result<(), BuildError> {
        let above =
            locate(&self.root, path.parent().unwrap_or(Path::new("/"))).map_err(failed(&path.to_string_lossy()))?;
        let name = path.file_name().unwrap_or(OsStr::new("."));
        let missing = || {
            let text = format!("lstat {}: no such file or directory", path.display());
            BuildError::new(ErrorKind::NotFound, text)
        };
        if !above.is_dir() {
            return if required { Err(missing()) } else { Ok(()) };
        }
        let dir = directory_of(&self.root, &above.real)?;
        if required && copy::stat_at(copy::Place { dir: &dir, name }).is_err_and(|error| error == Errno::NOENT) {
            return Err(missing());
        }
        skep_fs::tree::remove(&dir, name).map_err(failed(&format!("remove {}", path.display())))
    }

    /// Owner, mode and time of what was made.
    fn finish(&self, file: &File, mode: u32, owner: Owned) -> Result<(), Errno> {
        let (uid, gid) = owner.or_root();
        rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777))?;
        self.time.map_or(Ok(()), |time| rustix::fs::futimens(file, &copy::times_at(time)))
    }
}

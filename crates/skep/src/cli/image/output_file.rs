//! A file that an archive is written to: complete, or not there.
//!
//! The bytes go to a temporary file beside the target, which takes the target's name once all have come. Whatever the
//! target was before stays until then.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use skep_client::Response;

use crate::cli::failure::go_path_error;
use crate::cli::{Failure, Outcome};

/// A path that may be written to.
#[derive(Debug)]
pub(crate) struct OutputFile {
    path: PathBuf,
}

impl OutputFile {
    /// Checks `path` before any work is done for it.
    pub(crate) fn check(path: &Path) -> Result<Self, String> {
        let dir = directory_of(path);
        match fs::metadata(dir) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(format!("invalid output path: stat {}: not a directory", dir.display())),
            Err(error) => return Err(format!("invalid output path: {}", go_path_error("stat", dir, &error))),
        }
        // A rename replaces a link, not what it points to.
        let kind = match fs::symlink_metadata(path) {
            Ok(found) => found.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(OutputFile { path: path.to_owned() }),
            Err(error) => return Err(format!("failed to stat output path: {}", go_path_error("lstat", path, &error))),
        };
        let refused = if kind.is_file() {
            return Ok(OutputFile { path: path.to_owned() });
        } else if kind.is_dir() {
            "cannot write to a directory"
        } else if kind.is_symlink() {
            "cannot write to a symbolic link directly"
        } else if kind.is_fifo() {
            "cannot write to a named pipe (FIFO)"
        } else if kind.is_socket() {
            "cannot write to a socket"
        } else if kind.is_char_device() {
            "cannot write to a character device file"
        } else {
            "cannot write to a block device file"
        };
        Err(refused.to_owned())
    }

    /// Writes the body of `response`.
    pub(crate) async fn write(self, mut response: Response) -> Outcome {
        let mut pending = Pending::create(&self.path)?;
        while let Some(chunk) = response.chunk().await? {
            pending.file.write_all(&chunk).map_err(|error| pending.failed("write", &error))?;
        }
        pending.publish(&self.path)
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// The temporary file; removed again unless it is published.
struct Pending {
    path: PathBuf,
    file: File,
    published: bool,
}

impl Pending {
    fn create(target: &Path) -> Result<Self, Failure> {
        let mut name = std::ffi::OsString::from(".tmp-");
        name.push(target.file_name().unwrap_or_default());
        name.push(skep_fs::atomic::random_name());
        let path = directory_of(target).join(name);
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => Ok(Pending { path, file, published: false }),
            Err(error) => Err(Failure::message(go_path_error("open", &path, &error))),
        }
    }

    fn publish(mut self, target: &Path) -> Outcome {
        self.file.sync_all().map_err(|error| self.failed("sync", &error))?;
        fs::rename(&self.path, target).map_err(|error| self.failed("rename", &error))?;
        self.published = true;
        Ok(())
    }

    fn failed(&self, operation: &str, error: &io::Error) -> Failure {
        Failure::message(go_path_error(operation, &self.path, error))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.published {
            // The failure that led here is what the user is told.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let refused = |path: &Path| OutputFile::check(path).expect_err("refused");
        assert_eq!(refused(dir.path()), "cannot write to a directory");
        assert_eq!(refused(Path::new("/dev/null")), "cannot write to a character device file");
        assert_eq!(refused(Path::new("/nope/x")), "invalid output path: stat /nope: no such file or directory");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("x", &link).expect("a link");
        assert_eq!(refused(&link), "cannot write to a symbolic link directly");
        assert!(OutputFile::check(&dir.path().join("new")).is_ok());
        assert!(OutputFile::check(Path::new("new")).is_ok());
    }

    #[test]
    fn a_target_changes_only_when_all_was_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let target = dir.path().join("image.tar");
        fs::write(&target, "old").expect("written");
        let mut pending = Pending::create(&target).expect("made");
        pending.file.write_all(b"half").expect("written");
        drop(pending);
        assert_eq!(fs::read(&target).expect("read"), b"old");
        let mut pending = Pending::create(&target).expect("made");
        pending.file.write_all(b"new").expect("written");
        pending.publish(&target).expect("published");
        assert_eq!(fs::read(&target).expect("read"), b"new");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}

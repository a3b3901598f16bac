//! A file that a build writes: it is beside its place until the build has ended well, and what was there before stays until then.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::cli::failure::go_path_error;

/// A file on its way. Dropped, it is gone.
pub(super) struct NewFile {
    place: PathBuf,
    beside: PathBuf,
    kept: bool,
}

impl NewFile {
    /// Opens the file to write to. What can't be replaced is written to as it is: a pipe, a device, a file in a directory that one
    /// may not change.
    pub(super) fn create(path: &Path) -> std::io::Result<(File, Option<NewFile>)> {
        // A link stays, and leads to the new file.
        let place = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let there = match std::fs::metadata(&place) {
            Ok(there) if !there.is_file() => return Ok((OpenOptions::new().write(true).open(&place)?, None)),
            Ok(there) => Some(there),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let name = place.file_name().ok_or(ErrorKind::IsADirectory)?.to_string_lossy().into_owned();
        let beside = place.with_file_name(format!(".{name}.{}", skep_fs::atomic::random_name()));
        match OpenOptions::new().write(true).create_new(true).open(&beside) {
            Ok(file) => {
                let new = NewFile { place, beside, kept: false };
                if let Some(there) = there {
                    file.set_permissions(there.permissions())?;
                }
                Ok((file, Some(new)))
            }
            Err(_) if there.is_some() => Ok((File::create(&place)?, None)),
            Err(error) => Err(error),
        }
    }

    /// The build has ended well.
    pub(super) fn keep(mut self) -> Result<(), String> {
        self.kept = true;
        std::fs::rename(&self.beside, &self.place).map_err(|error| {
            // It is of no use where it is.
            let _ = std::fs::remove_file(&self.beside);
            format!("ERROR: {}", go_path_error("rename", &self.place, &error))
        })
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // Whoever waits for the build hears why it failed, which matters more.
            let _ = std::fs::remove_file(&self.beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_there_stays_until_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.tar");
        std::fs::write(&path, "old").expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("a mode");
        symlink("out.tar", folder.path().join("link")).expect("a link");
        let (mut file, new) = NewFile::create(&folder.path().join("link")).expect("opened");
        file.write_all(b"new").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "old");
        new.expect("beside").keep().expect("kept");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "new");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let (_, new) = NewFile::create(&path).expect("opened");
        drop(new);
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "new");
        assert_eq!(names(folder.path()), ["link", "out.tar"]);
    }

    #[test]
    fn what_is_no_file_is_written_to() {
        assert!(NewFile::create(Path::new("/dev/null")).expect("opened").1.is_none());
        let folder = tempfile::tempdir().expect("a folder");
        assert!(NewFile::create(folder.path()).is_err());
        assert!(NewFile::create(&folder.path().join("none/x")).is_err());
    }
}

//! Finding the program that a process is to execute, by the rules of Go's `exec.LookPath`: engines match on its texts.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::error::{LaunchError, LaunchErrorKind, Result};
use super::task::Task;

/// Finds the program of a task; the caller must be inside the container, in the task's working directory, as its user.
pub(super) fn find(task: &Task) -> Result<CString> {
    let name = task.program();
    let found = if name.as_os_str().as_bytes().contains(&b'/') {
        executable(name).map(|()| name.to_owned()).map_err(|error| failure(name, error))
    } else {
        search(name, task.variable("PATH").unwrap_or_default())
    };
    let found = found?.into_os_string().into_vec();
    CString::new(found).map_err(|_| LaunchError::invalid("the program's name contains a zero byte"))
}

fn search(name: &Path, path: &[u8]) -> Result<PathBuf> {
    for directory in path.split(|&byte| byte == b':') {
        // An empty entry means the working directory.
        let directory = if directory.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(directory)) };
        let candidate = directory.join(name);
        if executable(&candidate).is_ok() {
            return Ok(candidate);
        }
    }
    let message = format!("exec: {:?}: executable file not found in $PATH", name.display().to_string());
    Err(LaunchError { kind: LaunchErrorKind::CommandNotFound, step: "".into(), errno: None, message })
}

/// Whether a file can be executed by the effective user.
fn executable(path: &Path) -> io::Result<()> {
    let meta = fs::metadata(path)?;
    if meta.is_dir() {
        return Err(Errno::ISDIR.into());
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) if meta.permissions().mode() & 0o111 == 0 => Err(Errno::ACCESS.into()),
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn failure(name: &Path, error: io::Error) -> LaunchError {
    let quoted = format!("{:?}", name.display().to_string());
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let shown = LaunchError::os("", error);
    let (kind, message) = match errno {
        Some(Errno::NOENT | Errno::NOTDIR) => {
            (LaunchErrorKind::CommandNotFound, format!("exec: {quoted}: stat {}: {}", name.display(), shown.message))
        }
        Some(Errno::ACCESS | Errno::PERM | Errno::ISDIR) => {
            (LaunchErrorKind::NotExecutable, format!("exec: {quoted}: {}", shown.message))
        }
        _ => (LaunchErrorKind::System, format!("exec: {quoted}: {}", shown.message)),
    };
    LaunchError { kind, message, ..shown }
}

/// Why `execve` itself refused.
pub(super) fn refused(path: &CString, error: io::Error) -> LaunchError {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let shown = LaunchError::os("", error);
    let kind = match errno {
        Some(Errno::NOENT | Errno::NOTDIR) => LaunchErrorKind::CommandNotFound,
        Some(Errno::ACCESS | Errno::PERM | Errno::NOEXEC | Errno::ISDIR | Errno::LOOP | Errno::TXTBSY) => {
            LaunchErrorKind::NotExecutable
        }
        _ => LaunchErrorKind::System,
    };
    let message = format!("exec {}: {}", path.to_string_lossy(), shown.message);
    LaunchError { kind, message, ..shown }
}

//! What can go wrong, and what the machine refuses without that being an error.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::{Controllers, Limit};

/// The result of an operation on a cgroup.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation on a cgroup failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a cgroup v1 controller nor cgroup v2 is mounted.
    #[error("no cgroup hierarchy is mounted on this machine")]
    NotMounted,
    /// A cgroups path of a spec that names no place.
    #[error("invalid cgroup path {path:?}: {reason}")]
    InvalidPath {
        /// The path as it was given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The cgroup to be made has processes in it.
    #[error("cgroup {path} already exists and has processes in it")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The cgroup does not exist (any more).
    #[error("cgroup {path} does not exist")]
    Gone {
        /// The path below the hierarchies.
        path: String,
    },
    /// A limit whose value makes no sense, found before anything was written.
    #[error("invalid {limit}: {reason}")]
    Invalid {
        /// Which limit.
        limit: Limit,
        /// What is wrong with it.
        reason: String,
    },
    /// A limit whose value the kernel did not take.
    #[error("cannot set {limit} to {value:?} ({path}): {source}")]
    Limit {
        /// Which limit.
        limit: Limit,
        /// The value as it was written.
        value: String,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The processes did not stop in time.
    #[error("the processes of cgroup {path} could not be frozen in time")]
    NotFrozen {
        /// The directory.
        path: PathBuf,
    },
    /// Neither a freezer nor cgroup v2.
    #[error("this machine has no {0} controller")]
    NoController(Controllers),
    /// Anything else with a file or directory of the cgroup.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>, errno: Errno) -> Error {
        Error::Io { action, path: path.into(), source: errno.into() }
    }
}

/// A limit that was asked for and is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Which limit.
    pub limit: Limit,
    /// The value as it would have been written.
    pub value: String,
    /// Why it is not in force.
    pub reason: Reason,
}

/// Why a limit is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The controller is not mounted or not enabled.
    NoController(Controllers),
    /// The kernel has no such file: it is older, or built without the feature.
    NoFile(PathBuf),
    /// This version of cgroups has no such limit.
    NotInThisVersion,
    /// The kernel does not let this process set it.
    Refused {
        /// The file.
        path: PathBuf,
        /// EPERM, EACCES or EROFS.
        errno: i32,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} is not in force: ", self.limit, self.value)?;
        match &self.reason {
            Reason::NoController(controller) => write!(f, "this machine has no {controller} controller"),
            Reason::NoFile(path) => write!(f, "the kernel has no {}", path.display()),
            Reason::NotInThisVersion => f.write_str("cgroup v2 has no such limit"),
            Reason::Refused { path, errno } => {
                write!(f, "writing {}: {}", path.display(), io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

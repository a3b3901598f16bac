//! What is remembered of a container between commands: a directory below the root, mode 0700.
//!
//! ```text
//!   <root>/<id>/config.json    the specification as it was
//!   <root>/<id>/state.json     written last: without it the container is being made
//!   <root>/<id>/gate.sock      until it is started
//! ```
//!
//! Pids are facts only together with the time at which their process started; the status is always derived from the kernel.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use skep_runtime::cgroup::{Cgroup, CgroupPath};
use skep_runtime::container::{LaunchError, Result, State, Status, start_time};
use skep_runtime::spec::Spec;

/// The version of the files' form.
const SCHEMA: u32 = 1;

/// A container that is remembered.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its id.
    pub(crate) id: String,
    /// Its directory.
    directory: PathBuf,
}

/// What state.json says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    schema: u32,
    /// The first process, in the pid namespace of the runtime.
    pub(crate) pid: i32,
    /// When that started, in clock ticks since boot.
    pub(crate) start_time: u64,
    /// The bundle's directory.
    pub(crate) bundle: PathBuf,
    /// The root file system.
    pub(crate) rootfs: PathBuf,
    /// The cgroup, absolute in every hierarchy.
    pub(crate) cgroup: String,
    /// When it was made, RFC 3339.
    pub(crate) created: String,
    /// Who made it.
    pub(crate) owner: u32,
}

impl Record {
    /// A record of a container just launched.
    pub(crate) fn new(pid: i32, start_time: u64, bundle: &Path, spec: &Spec, cgroup: String) -> Self {
        let rootfs = spec.root.as_ref().map(|root| bundle.join(&root.path)).unwrap_or_default();
        let owner = rustix::process::geteuid().as_raw();
        let created = super::log::now();
        Self { schema: SCHEMA, pid, start_time, bundle: bundle.to_owned(), rootfs, cgroup, created, owner }
    }

    /// A descriptor of the first process, if it still lives.
    pub(crate) fn process(&self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // The descriptor is of the right process if that had the pid after the descriptor was opened.
        (start_time(self.pid) == Ok(self.start_time) && !is_dead(self.pid)).then_some(pidfd)
    }

    /// The container's cgroup, if it is still there.
    pub(crate) fn cgroup(&self) -> Option<Cgroup> {
        Cgroup::open(&CgroupPath::new(Some(&self.cgroup), "").ok()?).ok()
    }
}

/// Whether a process has ended and only waits to be reaped.
fn is_dead(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Refuses ids that are no plain file names, by runc's rule.
fn check_id(id: &str) -> Result<()> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_+-.".contains(letter);
    if id.is_empty() || id == "." || id == ".." || id.len() > 200 || !id.chars().all(plain) {
        return Err(LaunchError::invalid(format!("invalid container ID format: {id:?}")));
    }
    Ok(())
}

impl Entry {
    /// Reserves an id.
    pub(crate) fn create(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let directory = root.join(id);
        let make = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
        let made = make(&directory).or_else(|error| {
            if error.raw_os_error() != Some(libc::ENOENT) {
                return Err(error);
            }
            fs::DirBuilder::new().recursive(true).mode(0o711).create(root)?;
            make(&directory)
        });
        match made {
            Ok(()) => Ok(Self { id: id.to_owned(), directory }),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                Err(LaunchError::wrong_state(format!("container with given ID already exists: {id}")))
            }
            Err(error) => Err(LaunchError::os(format!("mkdir {}", directory.display()), error)),
        }
    }

    /// Finds a container.
    pub(crate) fn open(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let directory = root.join(id);
        if !directory.is_dir() {
            return Err(LaunchError::wrong_state(format!("container {id:?} does not exist")));
        }
        Ok(Self { id: id.to_owned(), directory })
    }

    /// All containers, by id.
    pub(crate) fn all(root: &Path) -> Result<Vec<Self>> {
        let entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(LaunchError::os(format!("read {}", root.display()), error)),
        };
        let entry = |entry: fs::DirEntry| {
            let id = entry.file_name().into_string().ok()?;
            (check_id(&id).is_ok() && entry.file_type().ok()?.is_dir()).then(|| Self { id, directory: entry.path() })
        };
        let mut all: Vec<Self> = entries.flatten().filter_map(entry).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// Remembers the specification and what became of it.
    pub(crate) fn save(&self, spec: &[u8], record: &Record) -> Result<()> {
        let write = |name: &str, text: &[u8]| {
            fs::write(self.directory.join(name), text).map_err(|error| LaunchError::os(format!("write {name}"), error))
        };
        write("config.json", spec)?;
        let text = serde_json::to_vec(record).map_err(|error| LaunchError::system("state", error.to_string()))?;
        write("state.json.new", &text)?;
        fs::rename(self.directory.join("state.json.new"), self.directory.join("state.json"))
            .map_err(|error| LaunchError::os("write state.json", error))
    }

    /// The record; nothing while the container is being made.
    pub(crate) fn record(&self) -> Result<Option<Record>> {
        let text = match fs::read(self.directory.join("state.json")) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LaunchError::os("read state.json", error)),
        };
        let record: Record =
            serde_json::from_slice(&text).map_err(|error| LaunchError::system("read state.json", error.to_string()))?;
        if record.schema != SCHEMA {
            return Err(LaunchError::system("read state.json", format!("unknown schema {}", record.schema)));
        }
        Ok(Some(record))
    }

    /// The record of a container that has been made.
    pub(crate) fn made(&self) -> Result<Record> {
        self.record()?.ok_or_else(|| LaunchError::wrong_state(format!("container {:?} is being made", self.id)))
    }

    /// The specification.
    pub(crate) fn spec(&self) -> Result<Spec> {
        Spec::load(&self.directory).map_err(|error| LaunchError::system("", error.to_string()))
    }

    /// Where in its life the container is.
    pub(crate) fn status(&self, record: Option<&Record>) -> Status {
        let Some(record) = record else { return Status::Creating };
        if record.process().is_none() {
            return Status::Stopped;
        }
        if self.gate_path().exists() {
            return Status::Created;
        }
        match record.cgroup().map(|cgroup| cgroup.is_frozen()) {
            Some(Ok(true)) => Status::Paused,
            _ => Status::Running,
        }
    }

    /// The state in the specification's form.
    pub(crate) fn state(&self, record: &Record, spec: &Spec) -> State {
        let status = self.status(Some(record));
        let pid = if status == Status::Stopped { 0 } else { record.pid };
        State::new(&self.id, spec, &record.bundle, status, pid)
    }

    fn gate_path(&self) -> PathBuf {
        self.directory.join("gate.sock")
    }

    /// The gate's address. A socket's path has at most 107 bytes: the directory goes by its descriptor.
    fn gate(&self) -> Result<(OwnedFd, SocketAddrUnix)> {
        let step = |error: Errno| LaunchError::os("gate", error);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&self.directory, flags, Mode::empty()).map_err(step)?;
        let path = format!("/proc/self/fd/{}/gate.sock", directory.as_raw_fd());
        let address = SocketAddrUnix::new(path).map_err(step)?;
        Ok((directory, address))
    }

    /// A socket at which the container waits to be started.
    pub(crate) fn build_gate(&self) -> Result<OwnedFd> {
        let (_directory, address) = self.gate()?;
        let step = |error: Errno| LaunchError::os("gate", error);
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(step)?;
        bind(&socket, &address).map_err(step)?;
        listen(&socket, 1).map_err(step)?;
        Ok(socket)
    }

    /// A connection to the container that waits to be started. From now on it counts as started.
    pub(crate) fn knock(&self) -> Result<OwnedFd> {
        let (_directory, address) = self.gate()?;
        let step = |error: Errno| LaunchError::os("start", error);
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(step)?;
        connect(&socket, &address).map_err(step)?;
        fs::remove_file(self.gate_path()).map_err(|error| LaunchError::os("start", error))?;
        Ok(socket)
    }

    /// Forgets the container.
    pub(crate) fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.directory)
            .map_err(|error| LaunchError::os(format!("remove {}", self.directory.display()), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_names() {
        for good in ["a", "a.b-c_d+e", "..."] {
            check_id(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for bad in ["", ".", "..", "a/b", "a b", "ü", "a\n"] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }
}

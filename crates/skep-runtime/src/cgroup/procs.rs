//! Processes: putting them in, listing them, killing them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::create::children;
use super::{Cgroup, Controllers, Error, Group, Result, Version, freeze};

/// Rounds of [`kill_all`] without `cgroup.kill`; one is enough with a freezer.
const KILL_ROUNDS: usize = 100;

pub(super) fn enter(cgroup: &Cgroup) -> Result<()> {
    for group in &cgroup.groups {
        if group.version == Version::V1 {
            // "0" is the writing thread. It moves without the lock that keeps thread groups together.
            group.write("tasks", "0").map_err(|errno| group.error("write", "tasks", errno))?;
        }
    }
    Ok(())
}

/// The way into a cgroup for a process that has no rights over it, opened by one that has: the kernel asks who opened the files
/// (cgroups(7), CVE-2021-4197).
#[derive(Debug)]
pub struct Entrance(Vec<(OwnedFd, PathBuf)>);

impl Entrance {
    pub(super) fn of(cgroup: &Cgroup) -> Result<Self> {
        let open = |group: &Group| match group.open("tasks", OFlags::WRONLY) {
            Ok(fd) => Ok((fd, group.path.join("tasks"))),
            Err(errno) => Err(group.error("open", "tasks", errno)),
        };
        cgroup.groups.iter().filter(|group| group.version == Version::V1).map(open).collect::<Result<_>>().map(Self)
    }

    /// As [`Cgroup::enter`].
    pub fn enter(&self) -> Result<()> {
        for (fd, path) in &self.0 {
            rustix::io::retry_on_intr(|| rustix::io::write(fd, b"0"))
                .map_err(|errno| Error::io("write", path.clone(), errno))?;
        }
        Ok(())
    }
}

pub(super) fn add(cgroup: &Cgroup, pid: i32) -> Result<()> {
    for group in &cgroup.groups {
        let file = "cgroup.procs";
        group.write(file, &pid.to_string()).map_err(|errno| group.error("write", file, errno))?;
    }
    Ok(())
}

pub(super) fn pids(cgroup: &Cgroup) -> Result<Vec<i32>> {
    let group = listing(cgroup)?;
    let mut pids = Vec::new();
    match collect(group.fd.as_fd(), &mut pids) {
        Ok(()) => {}
        Err(Errno::NOENT | Errno::NODEV) => return Err(Error::Gone { path: group.path.display().to_string() }),
        Err(errno) => return Err(group.error("read", "cgroup.procs", errno)),
    }
    Ok(pids)
}

/// The directory to ask for processes: one that a container can't leave by moving itself, which it could only in hierarchies
/// without a controller.
fn listing(cgroup: &Cgroup) -> Result<&Group> {
    let group =
        [Controllers::DEVICES, Controllers::PIDS, Controllers::MEMORY].into_iter().find_map(|want| cgroup.group(want));
    group.or(cgroup.groups.first()).ok_or(Error::NotMounted)
}

fn collect(dir: std::os::fd::BorrowedFd<'_>, pids: &mut Vec<i32>) -> std::result::Result<(), Errno> {
    let open = |name: &str, flags| {
        openat(dir, name, flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    };
    let text = read_all(open("cgroup.procs", OFlags::empty())?)?;
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(open(".", OFlags::DIRECTORY)?)? {
        match open(&child, OFlags::DIRECTORY).and_then(|fd| collect(fd.as_fd(), pids)) {
            // Removed meanwhile; or a threaded cgroup, whose processes are listed above it.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn read_all(fd: OwnedFd) -> std::result::Result<String, Errno> {
    use std::io::Read;
    let mut text = String::new();
    match std::fs::File::from(fd).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)),
    }
}

pub(super) fn kill_all(cgroup: &Cgroup) -> Result<()> {
    let killed_at_once = match cgroup.v2().map(|group| group.write("cgroup.kill", "1")) {
        Some(Ok(())) => true,
        // Before Linux 5.14, or not ours to write: one by one. If the directory is gone, so are its processes.
        Some(Err(_)) | None => false,
    };
    if !killed_at_once {
        kill_one_by_one(cgroup)?;
    }
    // A process stopped by the v1 freezer does not even die.
    match freeze::thaw(cgroup) {
        Ok(()) | Err(Error::NoController(_)) => Ok(()),
        Err(Error::Io { source, .. }) if is_gone(&source) => Ok(()),
        Err(error) => Err(error),
    }
}

fn kill_one_by_one(cgroup: &Cgroup) -> Result<()> {
    let frozen = freeze::freeze(cgroup).is_ok();
    for _ in 0..KILL_ROUNDS {
        let pids = match pids(cgroup) {
            Err(Error::Gone { .. }) => return Ok(()),
            other => other?,
        };
        for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            let _ = kill_process(pid, Signal::KILL); // ended meanwhile
        }
        if frozen || pids.is_empty() {
            break;
        }
    }
    Ok(())
}

fn is_gone(source: &std::io::Error) -> bool {
    let errno = source.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::NODEV))
}

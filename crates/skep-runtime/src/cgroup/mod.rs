//! Control groups, on cgroup v1, v2, and v1 with an empty v2 tree beside it ("hybrid").
//!
//! A container has one directory of the same relative path in every mounted hierarchy. A controller belongs to exactly one
//! hierarchy, and that hierarchy's version decides which files are written; nothing else in here asks for "the" version of the
//! machine. Limits become a list of settings first ([`Resources`] and the layout in, files and values out; no I/O), and are
//! written afterwards.
//!
//! Life of a cgroup:
//!
//! ```text
//!   Cgroup::create ── apply(limits) ── clone3(CLONE_INTO_CGROUP, clone_fd()) ── in the child: enter()
//!        │                                                                            │
//!        └── open (another process, by the same path) ── stats, freeze, update, pids ─┤
//!                                                                                     └── kill_all ── remove
//! ```
//!
//! `enter` matters: a process that writes itself into the `tasks` files of v1 costs about 20 µs for each hierarchy, whereas
//! moving another process (or anything into v2) through `cgroup.procs` waits for an RCU grace period, 4 to 9 ms in all.
//! `clone_fd` avoids that wait for v2.

mod create;
mod devices;
mod error;
mod file;
mod freeze;
mod layout;
mod limits;
mod path;
mod procs;
mod stats;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::spec::Resources;
pub use error::{Error, Reason, Result, Warning};
pub use layout::{Controllers, Kind, Layout, Version};
pub use limits::Limit;
pub use path::CgroupPath;
pub use procs::Entrance;
pub use stats::{BlkioEntry, BlkioStats, CpuStats, MemoryStats, PidsStats, Stats, Throttling};

/// The cgroup of one container.
#[derive(Debug)]
pub struct Cgroup {
    groups: Vec<Group>,
}

/// The directory of the cgroup in one hierarchy.
#[derive(Debug)]
struct Group {
    version: Version,
    controllers: Controllers,
    fd: OwnedFd,
    path: PathBuf,
}

impl Cgroup {
    /// Makes the cgroup in every hierarchy of this machine. Parents are made when missing. A directory that is there already is
    /// taken over if no process is in it. A hierarchy that may not be written is left out; a limit that needs it is refused later,
    /// by [`Cgroup::apply`].
    pub fn create(path: &CgroupPath) -> Result<Cgroup> {
        create::create(Layout::of_this_machine()?, path)
    }

    /// Opens a cgroup that exists. [`Error::Gone`] if it exists in no hierarchy.
    pub fn open(path: &CgroupPath) -> Result<Cgroup> {
        create::open(Layout::of_this_machine()?, path)
    }

    /// A descriptor for `CLONE_INTO_CGROUP` (clone3(2)), where there is a v2 tree. A process cloned so still calls [`Cgroup::enter`].
    pub fn clone_fd(&self) -> Option<BorrowedFd<'_>> {
        self.v2().map(|group| group.fd.as_fd())
    }

    /// Puts the calling process, which must have a single thread and must have been cloned with [`Cgroup::clone_fd`] if that is
    /// not `None`, into the rest of the hierarchies. Async-signal-safe while nothing fails.
    pub fn enter(&self) -> Result<()> {
        procs::enter(self)
    }

    /// What a process enters by that will have no rights over the cgroup when it does.
    pub fn entrance(&self) -> Result<Entrance> {
        Entrance::of(self)
    }

    /// Moves any process, with all its threads, into the cgroup. Slow (see the module's text).
    pub fn add(&self, pid: i32) -> Result<()> {
        procs::add(self, pid)
    }

    /// Sets up a new cgroup: all limits, and the device rules followed by the devices that every container may use. What the
    /// machine refuses or has no controller for comes back as warnings; a value that the kernel calls invalid is an error.
    pub fn apply(&self, resources: &Resources) -> Result<Vec<Warning>> {
        limits::apply(self, resources, limits::Occasion::New)
    }

    /// Changes the limits named in `resources` of a cgroup in use; the device rules stay as they are.
    pub fn update(&self, resources: &Resources) -> Result<Vec<Warning>> {
        limits::apply(self, resources, limits::Occasion::InUse)
    }

    /// Stops all processes of the cgroup, and returns when they have stopped.
    pub fn freeze(&self) -> Result<()> {
        freeze::freeze(self)
    }

    /// Lets the processes of a frozen cgroup go on.
    pub fn thaw(&self) -> Result<()> {
        freeze::thaw(self)
    }

    /// Whether the cgroup is frozen or about to be.
    pub fn is_frozen(&self) -> Result<bool> {
        freeze::is_frozen(self)
    }

    /// What the processes of the cgroup use, and have used.
    pub fn stats(&self) -> Result<Stats> {
        stats::read(self)
    }

    /// How many processes the kernel has killed here for want of memory.
    pub fn oom_kills(&self) -> Result<u64> {
        stats::oom_kills(self)
    }

    /// The processes of the cgroup and of the cgroups that the container has made below it.
    pub fn pids(&self) -> Result<Vec<i32>> {
        procs::pids(self)
    }

    /// Kills every process in the cgroup and below, also those that fork meanwhile and those that are frozen.
    pub fn kill_all(&self) -> Result<()> {
        procs::kill_all(self)
    }

    /// Removes the cgroup with the cgroups below it. While processes still end this waits, at most two seconds. Nothing to
    /// remove is no error; the rest is removed even if one hierarchy fails.
    pub fn remove(self) -> Result<()> {
        create::remove(&self)
    }

    /// The directories of the cgroup, with the controllers that each is for.
    pub fn paths(&self) -> impl Iterator<Item = (Controllers, &Path)> {
        self.groups.iter().map(|group| (group.controllers, group.path.as_path()))
    }

    fn v2(&self) -> Option<&Group> {
        self.groups.iter().find(|group| group.version == Version::V2)
    }

    /// The directory that has `controller`: a v1 hierarchy that names it, else the v2 tree if there is one.
    fn group(&self, controller: Controllers) -> Option<&Group> {
        let v1 = |group: &&Group| group.version == Version::V1 && group.controllers.contains(controller);
        let v1 = if controller == Controllers::NONE { None } else { self.groups.iter().find(v1) };
        v1.or(self.v2())
    }
}

//! Which namespaces a container gets, and from where.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use skep_sys::ns::{self, kind};

use super::error::{LaunchError, Result, Step};
use super::idmap::IdMap;
use crate::spec::{IdMapping, NamespaceKind, Spec};

/// The namespaces of a container to be.
#[derive(Debug)]
pub(super) struct Namespaces {
    /// New ones, as bits of clone3.
    pub(super) new: i32,
    /// Existing ones that the child enters itself, in this order.
    pub(super) entered: Vec<(i32, OwnedFd)>,
    /// Existing ones that the parent has to enter for the time of the clone.
    pub(super) inherited: Vec<(i32, OwnedFd)>,
}

pub(super) fn bit(of: NamespaceKind) -> i32 {
    match of {
        NamespaceKind::User => kind::USER,
        NamespaceKind::Pid => kind::PID,
        NamespaceKind::Network => kind::NETWORK,
        NamespaceKind::Mount => kind::MOUNT,
        NamespaceKind::Ipc => kind::IPC,
        NamespaceKind::Uts => kind::UTS,
        NamespaceKind::Cgroup => kind::CGROUP,
        NamespaceKind::Time => kind::TIME,
    }
}

impl Namespaces {
    /// Works out the namespaces of a specification and opens those that exist. `netns` takes the place of the network namespace that
    /// the specification names.
    pub(super) fn plan(spec: &Spec, netns: Option<BorrowedFd<'_>>) -> Result<Self> {
        let mut plan = Namespaces { new: 0, entered: Vec::new(), inherited: Vec::new() };
        let mut joined = Vec::new();
        for namespace in &spec.linux().namespaces {
            let bit = bit(namespace.kind);
            if plan.new & bit != 0 || joined.iter().any(|(other, _)| *other == bit) {
                return Err(LaunchError::invalid(format!("namespace {:?} is named twice", namespace.kind)));
            }
            match (namespace.kind, netns, namespace.path()) {
                (NamespaceKind::Network, Some(_), _) | (_, _, None) => plan.new |= bit,
                (_, _, Some(path)) => {
                    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                    let fd = rustix::fs::open(path, flags, Mode::empty())
                        .step_with(|| format!("open namespace {}", path.display()))?;
                    joined.push((bit, fd));
                }
            }
        }
        if let Some(netns) = netns {
            plan.new &= !kind::NETWORK;
            joined.push((kind::NETWORK, netns.try_clone_to_owned().step("dup")?));
        }
        plan.check(spec, &joined)?;
        plan.place(joined);
        Ok(plan)
    }

    fn check(&self, spec: &Spec, joined: &[(i32, OwnedFd)]) -> Result<()> {
        let has = |bit| self.new & bit != 0 || joined.iter().any(|(other, _)| *other == bit);
        let joins = |bit| joined.iter().any(|(other, _)| *other == bit);
        if !has(kind::MOUNT) {
            return Err(LaunchError::invalid("a container without a mount namespace is not supported"));
        }
        if joins(kind::MOUNT) {
            return Err(LaunchError::invalid("joining another container's mount namespace is not supported"));
        }
        if has(kind::TIME) {
            return Err(LaunchError::invalid("time namespaces are not supported"));
        }
        if spec.hostname.as_ref().is_some_and(|name| !name.is_empty()) && !has(kind::UTS) {
            return Err(LaunchError::invalid("unable to set hostname without a private UTS namespace"));
        }
        if spec.domainname.as_ref().is_some_and(|name| !name.is_empty()) && !has(kind::UTS) {
            return Err(LaunchError::invalid("unable to set domainname without a private UTS namespace"));
        }
        let linux = spec.linux();
        let mapped = !linux.uid_mappings.is_empty() && !linux.gid_mappings.is_empty();
        if self.new & kind::USER != 0 && !mapped {
            return Err(LaunchError::invalid("User namespaces enabled, but no uid and gid mappings found"));
        }
        Ok(())
    }

    /// Decides who enters what. A process that is born into a new user namespace has no rights over namespaces of the old one, and
    /// joining a pid namespace only counts for children: those are the parent's. The rest are the child's, the user namespace
    /// last, so that it still has its rights over the others.
    fn place(&mut self, joined: Vec<(i32, OwnedFd)>) {
        let born_with_user = self.new & kind::USER != 0;
        for (bit, fd) in joined {
            if bit == kind::PID || (born_with_user && bit != kind::USER) {
                self.inherited.push((bit, fd));
            } else {
                self.entered.push((bit, fd));
            }
        }
        self.entered.sort_by_key(|(bit, _)| *bit == kind::USER);
    }

    /// Whether the container's user namespace is not the caller's.
    pub(super) fn has_user(&self) -> bool {
        self.new & kind::USER != 0 || self.joins_user()
    }

    /// The maps of the user namespace that the container joins, if it joins one; the specification has to name them again.
    pub(super) fn joined_map(&self, spec: &Spec) -> Result<Option<IdMap>> {
        let Some((_, fd)) = self.entered.iter().find(|(bit, _)| *bit == kind::USER) else { return Ok(None) };
        let linux = spec.linux();
        IdMap::of(fd.try_clone().step("dup")?, &linux.uid_mappings, &linux.gid_mappings).map(Some)
    }

    /// Whether the container joins a user namespace that exists.
    pub(super) fn joins_user(&self) -> bool {
        self.entered.iter().any(|(bit, _)| *bit == kind::USER)
    }

    /// Enters the namespaces that are not the parent's to enter.
    pub(super) fn enter(&self) -> Result<()> {
        let mut later = Vec::new();
        for (bit, fd) in &self.entered {
            // Owned by the user namespace that comes last: has to wait until that is joined.
            if ns::enter(fd, *bit).is_err() {
                later.push((*bit, fd));
            }
        }
        for (bit, fd) in later {
            ns::enter(fd, bit).step("setns")?;
        }
        Ok(())
    }

    /// The new namespaces that clone3 makes. A cgroup namespace is made later, from inside the cgroup.
    pub(super) fn cloned(&self) -> i32 {
        self.new & !kind::CGROUP
    }

    /// The new namespaces that the child makes itself.
    pub(super) fn unshared(&self) -> i32 {
        self.new & !self.cloned()
    }
}

/// Enters namespaces for a time: dropping it goes back.
#[derive(Debug, Default)]
pub(super) struct Detour {
    back: Vec<(i32, OwnedFd)>,
}

impl Detour {
    /// Enters, and remembers where it was.
    pub(super) fn through(namespaces: impl IntoIterator<Item = (i32, impl AsFd)>) -> Result<Self> {
        let mut detour = Detour::default();
        for (bit, fd) in namespaces {
            let own = rustix::fs::open(own_path(bit), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .step_with(|| format!("open {}", own_path(bit)))?;
            ns::enter(fd, bit).step("setns")?;
            detour.back.push((bit, own));
        }
        Ok(detour)
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        while let Some((bit, own)) = self.back.pop() {
            // Nothing can be done about a failure, and none is possible: these are the process's own.
            let _ = ns::enter(own, bit);
        }
    }
}

fn own_path(bit: i32) -> &'static str {
    match bit {
        kind::PID => "/proc/self/ns/pid_for_children",
        kind::NETWORK => "/proc/self/ns/net",
        kind::IPC => "/proc/self/ns/ipc",
        kind::UTS => "/proc/self/ns/uts",
        kind::CGROUP => "/proc/self/ns/cgroup",
        kind::TIME => "/proc/self/ns/time_for_children",
        kind::USER => "/proc/self/ns/user",
        _ => "/proc/self/ns/mnt",
    }
}

/// Writes the id maps of a process that was cloned into a new user namespace (user_namespaces(7)).
pub(super) fn map_ids(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let text = |maps: &[IdMapping]| {
        maps.iter().map(|map| format!("{} {} {}\n", map.container_id, map.host_id, map.size)).collect::<String>()
    };
    let write = |file: &str, text: &str| std::fs::write(format!("/proc/{pid}/{file}"), text);
    let uid_map = write("uid_map", &text(uids));
    // A caller without privileges may map its own group only after giving up setgroups.
    if !rustix::process::geteuid().is_root() {
        write("setgroups", "deny").step("write setgroups")?;
    }
    uid_map.step("write uid_map")?;
    write("gid_map", &text(gids)).step("write gid_map")
}

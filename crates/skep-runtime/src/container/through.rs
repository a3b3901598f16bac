//! A first process in a user namespace that exists.
//!
//! Whoever enters a user namespace can't come back, and only a process that is in it can make the container's other namespaces in it. So
//! a process goes ahead and clones the container's first process as its own sibling:
//!
//! ```text
//!   parent ─ clone ─▶ scout: enters the namespaces ─ clone3(CLONE_PARENT) ─▶ first process, a child of the parent's
//!     ◀──────────────── Born (+ pidfd), ends
//! ```

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use skep_sys::process::{Child, clone_child, clone_sibling};

use super::channel::{self, Report};
use super::error::{LaunchError, Result, Step};
use super::first::{First, close_parents, vanished};
use super::launch::wait_for;
use super::namespaces::Namespaces;

/// Clones the first process by way of the user namespace that `plan` enters.
pub(super) fn clone(plan: &Namespaces, cgroup: Option<BorrowedFd<'_>>, first: First<'_>) -> Result<Child> {
    let (ours, theirs) = channel::pair()?;
    let parents = ours.as_raw_fd();
    let scout = clone_child(0, None, || {
        let born = close_parents(parents)
            .and_then(|()| plan.enter())
            .and_then(|()| clone_sibling(plan.cloned(), cgroup, || first.run()).step("clone"));
        let told = born.and_then(|born| channel::send(&theirs, &Report::Born, Some(born.pidfd.as_fd())));
        match told {
            Ok(()) => 0,
            Err(error) => {
                channel::fail(&theirs, error);
                1
            }
        }
    })
    .step("clone")?;
    drop(theirs);
    let told = channel::receive::<Report>(&ours);
    wait_for(&scout.pidfd);
    match told? {
        Some((Report::Born, Some(pidfd))) => Ok(Child { pid: pid_of(&pidfd)?, pidfd }),
        Some((Report::Failed(error), _)) => Err(error),
        _ => Err(vanished("clone")),
    }
}

/// The pid behind a pidfd, in the caller's pid namespace: the scout may have had another one.
fn pid_of(pidfd: &OwnedFd) -> Result<i32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).step("read fdinfo")?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|text| text.trim().parse().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(|| LaunchError::system("clone", "the process has no pid here"))
}

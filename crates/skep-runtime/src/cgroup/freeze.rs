//! Stopping all processes of a cgroup and letting them go on.

use std::time::{Duration, Instant};

use super::file::value;
use super::{Cgroup, Controllers, Error, Group, Result, Version};

/// How long the processes get to stop. A process in an uninterruptible wait can take longer than anybody wants to wait.
const DEADLINE: Duration = Duration::from_secs(10);

/// v1 can hang in FREEZING when a process forks at the wrong moment; thawing and freezing again helps.
const V1_RETRY_AFTER: u32 = 200;

pub(super) fn freeze(cgroup: &Cgroup) -> Result<()> {
    let group = freezer(cgroup)?;
    set(group, Wanted::Frozen)?;
    let deadline = Instant::now() + DEADLINE;
    let mut pause = Duration::from_micros(50);
    let mut round = 0u32;
    while !has_stopped(group)? {
        if Instant::now() > deadline {
            set(group, Wanted::Running)?;
            return Err(Error::NotFrozen { path: group.path.clone() });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
        round += 1;
        if group.version == Version::V1 {
            if round.is_multiple_of(V1_RETRY_AFTER) {
                set(group, Wanted::Running)?;
            }
            set(group, Wanted::Frozen)?; // takes in the processes forked since
        }
    }
    Ok(())
}

pub(super) fn thaw(cgroup: &Cgroup) -> Result<()> {
    set(freezer(cgroup)?, Wanted::Running)
}

pub(super) fn is_frozen(cgroup: &Cgroup) -> Result<bool> {
    let group = freezer(cgroup)?;
    let (file, running) = match group.version {
        Version::V1 => ("freezer.state", "THAWED"),
        Version::V2 => ("cgroup.freeze", "0"),
    };
    Ok(group.read(file).map_err(|errno| group.error("read", file, errno))?.trim() != running)
}

enum Wanted {
    Frozen,
    Running,
}

fn set(group: &Group, wanted: Wanted) -> Result<()> {
    let (file, text) = match (group.version, wanted) {
        (Version::V1, Wanted::Frozen) => ("freezer.state", "FROZEN"),
        (Version::V1, Wanted::Running) => ("freezer.state", "THAWED"),
        (Version::V2, Wanted::Frozen) => ("cgroup.freeze", "1"),
        (Version::V2, Wanted::Running) => ("cgroup.freeze", "0"),
    };
    group.write(file, text).map_err(|errno| group.error("write", file, errno))
}

fn has_stopped(group: &Group) -> Result<bool> {
    let file = match group.version {
        Version::V1 => "freezer.state",
        Version::V2 => "cgroup.events",
    };
    let text = group.read(file).map_err(|errno| group.error("read", file, errno))?;
    Ok(match group.version {
        Version::V1 => text.trim() == "FROZEN",
        Version::V2 => value(&text, "frozen") == Some(1),
    })
}

fn freezer(cgroup: &Cgroup) -> Result<&Group> {
    cgroup.group(Controllers::FREEZER).ok_or(Error::NoController(Controllers::FREEZER))
}

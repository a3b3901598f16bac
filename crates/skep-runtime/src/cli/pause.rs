//! `pause` and `resume`.

use skep_runtime::container::{LaunchError, Result, Status};

use super::args::{Args, only};
use super::store::Entry;
use super::{Global, words};

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// Stop all processes.
    Frozen,
    /// Let them go on.
    Running,
}

/// Runs the command.
pub(crate) fn run(global: &Global, args: Args, to: To) -> Result<u8> {
    let id = only(words(args)?, "the container's id")?;
    let entry = Entry::open(&global.root, &id)?;
    let record = entry.made()?;
    match (to, entry.status(Some(&record))) {
        (To::Frozen, Status::Running | Status::Created) | (To::Running, Status::Paused) => {}
        (To::Frozen, _) => return Err(LaunchError::wrong_state("container not running or created")),
        (To::Running, _) => return Err(LaunchError::wrong_state("container not paused")),
    }
    let cgroup = record.cgroup().ok_or_else(|| LaunchError::refused("freeze", "the container has no cgroup"))?;
    match to {
        To::Frozen => cgroup.freeze(),
        To::Running => cgroup.thaw(),
    }
    .map_err(|error| LaunchError::system("freeze", error.to_string()))?;
    Ok(0)
}

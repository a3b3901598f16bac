//! Becoming the user of a specification: groups, ids and capabilities.
//!
//! Until the last moment the process keeps all capabilities it has, whatever its user id: a system call filter without
//! no_new_privs can only be loaded by who has CAP_SYS_ADMIN. [`drop_capabilities`] is the last step before execve but one.

use rustix::io::Errno;
use rustix::process::{Gid, Uid, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::error::{LaunchError, Result, Step};
use super::task::{Limit, Sets, Task};
use crate::capability;
use crate::spec::User;

/// Whether the supplementary groups can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Groups {
    /// As everywhere.
    Settable,
    /// In a user namespace made by somebody without privileges they can't.
    Denied,
}

/// Becomes root of the user namespace just entered.
pub(super) fn become_namespace_root(groups: Groups) -> Result<()> {
    if groups == Groups::Settable {
        set_thread_groups(&[]).step("setgroups")?;
    }
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).step("setresgid")?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).step("setresuid")
}

/// Becomes the user, with all capabilities still there but those that are outside the bounding set.
pub(super) fn become_user(user: &User, sets: Option<&Sets>, groups: Groups) -> Result<()> {
    if let Some(sets) = sets {
        limit_bounding(sets.bounding)?;
        set_keep_capabilities(true).step("keep capabilities")?;
    }
    let gids: Vec<Gid> = user.additional_gids.iter().map(|&gid| Gid::from_raw(gid)).collect();
    match set_thread_groups(&gids) {
        Err(Errno::PERM) if groups == Groups::Denied && gids.is_empty() => {}
        result => result.step("setgroups")?,
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_res_gid(gid, gid, gid).step_with(|| format!("setgid {}", user.gid))?;
    set_thread_res_uid(uid, uid, uid).step_with(|| format!("setuid {}", user.uid))?;
    if sets.is_some() {
        let now = capabilities(None).step("capget")?;
        set_capabilities(None, CapabilitySets { effective: now.permitted, ..now }).step("capset")?;
        set_keep_capabilities(false).step("keep capabilities")?;
    }
    Ok(())
}

fn limit_bounding(bounding: u64) -> Result<()> {
    for number in 0..64 {
        let bit = 1u64 << number;
        if bounding & bit != 0 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(bit)) {
            // Past the last that this kernel knows.
            Err(Errno::INVAL) => break,
            result => result.step("drop bounding capability")?,
        }
    }
    Ok(())
}

/// Leaves exactly the capabilities of the specification.
pub(super) fn drop_capabilities(sets: &Sets) -> Result<()> {
    let now = capabilities(None).step("capget")?;
    let missing = (sets.permitted | sets.effective) & !now.permitted.bits();
    if missing != 0 {
        let names: Vec<_> = capability::CapabilitySet::from_bits(missing).names().collect();
        let text = format!("the runtime itself has no {}", names.join(", "));
        return Err(LaunchError::refused("unable to apply caps", text));
    }
    let set = CapabilitySet::from_bits_retain;
    clear_ambient_capability_set().step("clear ambient capabilities")?;
    let wanted = CapabilitySets {
        effective: set(sets.effective),
        permitted: set(sets.permitted),
        inheritable: set(sets.inheritable),
    };
    set_capabilities(None, wanted).step("unable to apply caps")?;
    // Only what is inheritable can be ambient. runc's example asks for more, and gets no more than this under runc.
    let ambient = sets.ambient & sets.inheritable & sets.permitted;
    for bit in (0..64).map(|number| 1u64 << number).filter(|bit| ambient & bit != 0) {
        configure_capability_in_ambient_set(set(bit), true).step("set ambient capability")?;
    }
    Ok(())
}

/// Sets the calling process's resource limits.
pub(super) fn set_limits(task: &Task) -> Result<()> {
    for limit in &task.rlimits {
        setrlimit(limit.resource, limit.value).map_err(|error| refused(limit, error))?;
    }
    Ok(())
}

/// Sets the resource limits of a child that is about to lose the right to do it.
pub(super) fn set_limits_of(pid: rustix::process::Pid, task: &Task) -> Result<()> {
    for limit in &task.rlimits {
        rustix::process::prlimit(Some(pid), limit.resource, limit.value).map_err(|error| refused(limit, error))?;
    }
    Ok(())
}

fn refused(limit: &Limit, error: Errno) -> LaunchError {
    let step = format!("error setting rlimit {}", limit.name);
    if error != Errno::PERM {
        return LaunchError::os(step, error);
    }
    let shown = |value: Option<u64>| value.map_or_else(|| "unlimited".to_owned(), |value| value.to_string());
    let most = rustix::process::getrlimit(limit.resource).maximum;
    let wanted = shown(limit.value.maximum);
    let text = format!(
        "the hard limit {wanted} is above this machine's {}, and raising it needs CAP_SYS_RESOURCE, which the runtime does not have",
        shown(most)
    );
    LaunchError { errno: Some(error.raw_os_error()), ..LaunchError::refused(step, text) }
}

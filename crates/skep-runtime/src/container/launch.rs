//! The parent's side of a clone: what only the parent can do for its child, and listening to what becomes of it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::process::{DumpableBehavior, Pid, WaitId, WaitIdOptions, dumpable_behavior, set_dumpable_behavior, waitid};
use skep_sys::ns::kind;
use skep_sys::process::{Child, clone_child};

use super::channel::{self, Order, Report};
use super::error::{LaunchError, LaunchErrorKind, Result, Step};
use super::first::{First, vanished};
use super::hooks::{State, Status, run_hooks};
use super::identity::{self, Groups};
use super::idmap::IdMap;
use super::namespaces::{Detour, Namespaces, map_ids};
use super::sources::{Sources, wants_map};
use super::task::Task;
use super::{LaunchOptions, Launched, Stdio, procfs, terminal, through};
use crate::cgroup::Cgroup;

/// Clones a container's first process and brings it to its gate.
pub(super) fn launch(options: &LaunchOptions<'_>) -> Result<Launched> {
    let spec = options.spec;
    let process = spec.process.as_ref().ok_or_else(|| LaunchError::invalid("the specification has no process"))?;
    let task = Task::new(process, spec.linux().seccomp.as_ref())?;
    check_modules(&task)?;
    let plan = Namespaces::plan(spec, options.netns)?;
    procfs::check_sysctls(spec, &plan)?;
    let groups = groups_in(&plan);
    let sources = match plan.new & kind::USER == 0 && wants_map(spec, options.rootfs) {
        true => Some(Sources::open(spec, options.bundle, options.rootfs, plan.joined_map(spec)?.as_ref())?),
        false => None,
    };
    if let Stdio::Fds(fds) = &options.stdio
        && plan.has_user()
    {
        terminal::give_pipes_from_outside(fds, spec, task.user.uid);
    }
    let (ours, theirs) = channel::pair()?;
    let detour = Detour::through(plan.inherited.iter().map(|(bit, fd)| (*bit, fd)))?;
    let hidden = Hidden::when(plan.new & kind::PID == 0);
    let cgroup = options.cgroup.and_then(|cgroup| cgroup.clone_fd());
    let born_outside = options.cgroup.filter(|_| plan.has_user());
    let entrance = born_outside.map(Cgroup::entrance).transpose();
    let entrance = entrance.map_err(|error| LaunchError::system("enter cgroup", error.to_string()))?;
    let parents = ours.as_raw_fd();
    let first = First { options, plan: &plan, task: &task, sources, groups, entrance, channel: theirs, parents };
    let child = match plan.joins_user() {
        true => through::clone(&plan, cgroup, first)?,
        false => clone_child(plan.cloned(), cgroup, || first.run()).map_err(|error| clone_failed(&plan, error))?,
    };
    drop((detour, hidden));
    let help = Help { task: &task, options: Some(options), plan: Some(&plan), by_parent: plan.has_user() };
    bring_to_gate(child, ours, &help)
}

fn clone_failed(plan: &Namespaces, error: std::io::Error) -> LaunchError {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EUSERS) if plan.new & kind::USER != 0 => {
            LaunchError::refused("clone", "no more user namespaces are allowed (see /proc/sys/user)")
        }
        _ => LaunchError::os("clone", error),
    }
}

/// Whether supplementary groups can be set in the container.
pub(super) fn groups_in(plan: &Namespaces) -> Groups {
    match plan.has_user() && !rustix::process::geteuid().is_root() {
        true => Groups::Denied,
        false => Groups::Settable,
    }
}

/// Refuses a profile or label of a security module that this machine does not run.
pub(super) fn check_modules(task: &Task) -> Result<()> {
    let enabled = || std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"));
    if let Some(profile) = task.apparmor_profile.as_deref().filter(|_| !enabled()) {
        return Err(LaunchError::refused(
            "",
            format!("AppArmor profile {profile:?}: AppArmor is not enabled on this machine"),
        ));
    }
    if let Some(label) =
        task.selinux_label.as_deref().filter(|_| !std::path::Path::new("/sys/fs/selinux/enforce").exists())
    {
        return Err(LaunchError::refused(
            "",
            format!("SELinux label {label:?}: SELinux is not enabled on this machine"),
        ));
    }
    Ok(())
}

/// Makes the process undumpable for a time: a child that is born into a pid namespace in which others live inherits it, and so is in
/// nobody's reach before its execve (CVE-2016-9962).
#[derive(Debug)]
pub(super) struct Hidden(Option<DumpableBehavior>);

impl Hidden {
    pub(super) fn when(others_live_there: bool) -> Self {
        // Without privileges the files of an undumpable child would be out of reach for its own parent.
        let before = (others_live_there && rustix::process::geteuid().is_root()).then(dumpable_behavior);
        let before = before.and_then(std::result::Result::ok);
        if before.is_some() {
            let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        }
        Self(before)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(before) = self.0 {
            let _ = set_dumpable_behavior(before);
        }
    }
}

/// What the parent does for its child.
pub(super) struct Help<'a> {
    pub(super) task: &'a Task,
    /// Of a container's first process; nothing for one that enters.
    pub(super) options: Option<&'a LaunchOptions<'a>>,
    pub(super) plan: Option<&'a Namespaces>,
    /// Whether limits are the parent's to set, because the child's user namespace has no rights over them.
    pub(super) by_parent: bool,
}

/// Helps a child until it waits at its gate; if that fails, the child has ended and is waited for.
pub(super) fn bring_to_gate(child: Child, channel: OwnedFd, help: &Help<'_>) -> Result<Launched> {
    let result = converse(&child, &channel, help);
    match result {
        Ok(pty_master) => {
            let start_time = start_time(child.pid)?;
            let gate = Some(channel);
            Ok(Launched { pid: child.pid, pidfd: child.pidfd, start_time, pty_master, gate })
        }
        Err(error) => {
            kill_and_wait(&child.pidfd);
            Err(error)
        }
    }
}

fn converse(child: &Child, channel: &OwnedFd, help: &Help<'_>) -> Result<Option<OwnedFd>> {
    assist(child, help)?;
    channel::send(channel, &Order::Go { pid: child.pid }, None)?;
    if let Some((_, options)) = help.plan.zip(help.options).filter(|(plan, _)| plan.new & kind::USER != 0) {
        hand_over(child.pid, channel, options)?;
    }
    loop {
        match channel::receive::<Report>(channel)? {
            Some((Report::Ready, master)) => return Ok(master),
            Some((Report::Failed(error), _)) => return Err(error),
            Some((Report::RunHooks, _)) => {
                runtime_hooks(child.pid, help)?;
                channel::send(channel, &Order::HooksDone, None)?;
            }
            Some((Report::Born, _)) => return Err(LaunchError::system("start-up", "unexpected report")),
            None => return Err(vanished("start-up")),
        }
    }
}

/// Opens for a child that was born into a user namespace what it might not be allowed to see, and sends it there.
fn hand_over(pid: i32, channel: &OwnedFd, options: &LaunchOptions<'_>) -> Result<()> {
    let (spec, linux) = (options.spec, options.spec.linux());
    let map = match wants_map(spec, options.rootfs) {
        true => Some(IdMap::of_process(pid, &linux.uid_mappings, &linux.gid_mappings)?),
        false => None,
    };
    match Sources::open(spec, options.bundle, options.rootfs, map.as_ref()) {
        Ok(Sources { root, binds }) => {
            channel::send(channel, &Order::Root, Some(root.as_fd()))?;
            for (at, bind) in binds.iter().enumerate().filter_map(|(at, bind)| Some((at, bind.as_ref()?))) {
                channel::send(channel, &Order::Bind { at }, Some(bind.as_fd()))?;
            }
        }
        // A parent without rights of its own: in the new namespace the child has some.
        Err(error) if error.errno == Some(libc::EPERM) && map.is_none() => {}
        Err(error) => return Err(error),
    }
    channel::send(channel, &Order::Mounts, None)
}

fn assist(child: &Child, help: &Help<'_>) -> Result<()> {
    if let (Some(plan), Some(options)) = (help.plan, help.options)
        && plan.new & kind::USER != 0
    {
        let linux = options.spec.linux();
        map_ids(child.pid, &linux.uid_mappings, &linux.gid_mappings)?;
    }
    if help.by_parent && !help.task.rlimits.is_empty() {
        let pid = Pid::from_raw(child.pid).ok_or_else(|| vanished("start-up"))?;
        identity::set_limits_of(pid, help.task)?;
    }
    set_oom_score(child.pid, help.task)
}

fn set_oom_score(pid: i32, task: &Task) -> Result<()> {
    let Some(wanted) = task.oom_score_adj else { return Ok(()) };
    let path = format!("/proc/{pid}/oom_score_adj");
    match std::fs::write(&path, wanted.to_string()) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
            let now = std::fs::read_to_string(&path).unwrap_or_default();
            if now.trim() == wanted.to_string() {
                return Ok(());
            }
            let text = format!("lowering it from {} to {wanted} needs CAP_SYS_RESOURCE", now.trim());
            Err(LaunchError { errno: error.raw_os_error(), ..LaunchError::refused("oomScoreAdj", text) })
        }
        Err(error) => Err(LaunchError::os("write oom_score_adj", error)),
    }
}

fn runtime_hooks(pid: i32, help: &Help<'_>) -> Result<()> {
    let Some((options, hooks)) = help.options.and_then(|options| Some((options, options.spec.hooks.as_ref()?))) else {
        return Ok(());
    };
    let state = State::new(options.id, options.spec, options.bundle, Status::Creating, pid);
    run_hooks("prestart", &hooks.prestart, &state)?;
    run_hooks("createRuntime", &hooks.create_runtime, &state)
}

/// When a process started, in clock ticks since boot: field 22 of /proc/PID/stat (proc_pid_stat(5)).
pub fn start_time(pid: i32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).step("read start time")?;
    // The second field is the name in parentheses, and may contain anything.
    let field = text.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19));
    field
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| LaunchError::system("read start time", "unexpected text in /proc/PID/stat"))
}

/// Lets a process through its gate.
pub(super) fn open(gate: OwnedFd) -> Result<()> {
    match channel::send(&gate, &Order::Start, None) {
        Err(error) if error.errno == Some(libc::EPIPE) => {
            return Err(LaunchError { kind: LaunchErrorKind::WrongState, ..vanished("start") });
        }
        result => result?,
    }
    match channel::receive::<Report>(&gate)? {
        Some((Report::Failed(error), _)) => Err(error),
        Some(_) => Err(LaunchError::system("start", "unexpected report")),
        None => Ok(()),
    }
}

/// Kills a child, and waits for its end.
pub(super) fn kill_and_wait(pidfd: &OwnedFd) {
    let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
    wait_for(pidfd);
}

/// Waits for a child's end.
pub(super) fn wait_for(pidfd: &OwnedFd) {
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
}

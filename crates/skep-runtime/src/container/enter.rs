//! Executing a process in a container that runs: entering its namespaces, and from there on as its first process did.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, stat};
use skep_sys::ns::{self, kind};
use skep_sys::process::{self, clone_child};

use super::channel;
use super::error::{LaunchError, Result, Step};
use super::finish::{self, Gate, Surroundings};
use super::first::{close_all_but, close_parents, expect_go};
use super::identity::{self, Groups};
use super::launch::{Help, Hidden, bring_to_gate, check_modules};
use super::namespaces::Detour;
use super::task::Task;
use super::terminal::{self, Terminal};
use super::{ExecTarget, Keyring, Launched, Stdio};
use crate::protocol::FirstProcess;
use crate::spec::Process;

/// The names below /proc/PID/ns.
const KINDS: [(&str, i32); 7] = [
    ("user", kind::USER),
    ("pid", kind::PID),
    ("net", kind::NETWORK),
    ("ipc", kind::IPC),
    ("uts", kind::UTS),
    ("cgroup", kind::CGROUP),
    ("mnt", kind::MOUNT),
];

/// Clones a process into a container and brings it to its gate.
pub(super) fn exec(target: &ExecTarget<'_>, wanted: &Process, stdio: &Stdio) -> Result<Launched> {
    let task = Task::new(wanted, target.spec.linux().seccomp.as_ref())?;
    check_modules(&task)?;
    let foreign = foreign_namespaces(target.pid)?;
    let by_parent = foreign & kind::USER != 0;
    let groups = match by_parent && !rustix::process::geteuid().is_root() {
        true => Groups::Denied,
        false => Groups::Settable,
    };
    if let Stdio::Fds(fds) = stdio
        && by_parent
    {
        terminal::give_pipes_from_outside(fds, target.spec, task.user.uid);
    }
    let (ours, theirs) = channel::pair()?;
    let clone_fd = target.cgroup.and_then(|cgroup| cgroup.clone_fd());
    // The child has to be born in the container's pid namespace.
    let pid_namespace = Some((kind::PID, target.pidfd)).filter(|_| foreign & kind::PID != 0);
    let detour = Detour::through(pid_namespace)?;
    let hidden = Hidden::when(true);
    let entering = Entering {
        target,
        task: &task,
        stdio,
        foreign: foreign & !kind::PID,
        groups,
        channel: theirs,
        parents: ours.as_raw_fd(),
    };
    let child = clone_child(0, clone_fd, || entering.run()).step("clone")?;
    drop((detour, hidden));
    bring_to_gate(child, ours, &Help { task: &task, options: None, plan: None, by_parent })
}

/// The namespaces of a process that are not the caller's, as bits.
fn foreign_namespaces(pid: i32) -> Result<i32> {
    let mut bits = 0;
    for (name, bit) in KINDS {
        let own = stat(format!("/proc/self/ns/{name}")).step("stat namespace")?;
        let theirs = stat(format!("/proc/{pid}/ns/{name}")).step_with(|| format!("stat namespace {name} of {pid}"))?;
        if (own.st_dev, own.st_ino) != (theirs.st_dev, theirs.st_ino) {
            bits |= bit;
        }
    }
    Ok(bits)
}

/// Everything that the child takes over from its parent.
struct Entering<'a> {
    target: &'a ExecTarget<'a>,
    task: &'a Task,
    stdio: &'a Stdio,
    foreign: i32,
    groups: Groups,
    channel: OwnedFd,
    parents: RawFd,
}

impl Entering<'_> {
    fn run(self) -> ! {
        // Nothing is dropped on the way out: most descriptors of the parent's are closed by then.
        let mut this = ManuallyDrop::new(self);
        let error = match this.go() {
            Ok(told) => told,
            Err(error) => {
                channel::fail(&this.channel, error.clone());
                error
            }
        };
        process::exit_now(error.kind.exit_code().into())
    }

    /// The error is one that was told already if it comes back as value.
    fn go(&mut self) -> Result<LaunchError> {
        let Self { target, task, stdio, foreign, groups, parents, .. } = *self;
        let channel = &self.channel;
        process::reset_signals();
        close_parents(parents)?;
        expect_go(channel)?;
        // Before the namespaces: in the container's user namespace it has no rights over it.
        if let Some(cgroup) = target.cgroup {
            cgroup.enter().map_err(|error| LaunchError::system("enter cgroup", error.to_string()))?;
        }
        if foreign != 0 {
            ns::enter(target.pidfd, foreign).step("enter namespaces")?;
        }
        let mut keep = vec![channel.as_fd()];
        if let Stdio::Fds(fds) = stdio {
            keep.extend(fds.iter().map(AsFd::as_fd));
        }
        close_all_but(&keep, target.preserve_fds)?;
        rustix::process::setsid().step("setsid")?;
        if foreign & kind::USER != 0 {
            identity::become_namespace_root(groups)?;
        }
        let master = self::stdio(stdio, task.user.uid)?;
        let around = Surroundings {
            id: target.id,
            groups,
            sets_limits: foreign & kind::USER == 0,
            keyring: Keyring::Own,
            first: FirstProcess::Program,
            proc: None,
            preserve_fds: target.preserve_fds,
            start_hooks: &[],
            state: None,
        };
        let path = finish::prepare(task, &around)?;
        Ok(finish::pass(task, &path, &around, Gate { channel: channel.as_fd(), listener: None }, master))
    }
}

fn stdio(stdio: &Stdio, owner: u32) -> Result<Option<OwnedFd>> {
    match stdio {
        Stdio::Terminal(size) => {
            let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step("open root")?;
            let terminal = Terminal::open(root.as_fd(), *size)?;
            terminal.use_as_stdio(owner)?;
            return Ok(Some(terminal.master));
        }
        Stdio::Fds(fds) => terminal::use_as_stdio(fds.each_ref().map(AsFd::as_fd))?,
        Stdio::Inherit => {}
    }
    terminal::give_pipes(owner);
    Ok(None)
}

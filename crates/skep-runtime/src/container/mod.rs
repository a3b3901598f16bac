//! From a specification to a process.
//!
//! [`launch`] clones the container's first process and lets it set itself up; [`exec`] clones one that enters a container. Both
//! return when the new process waits at its gate, one step before `execve`; [`Launched::start`] lets it through.
//!
//! The calling process must have a single thread: the child runs ordinary code after the clone.

mod aside;
mod cgroupfs;
mod channel;
mod copyup;
mod devices;
mod enter;
mod error;
mod finish;
mod first;
mod hooks;
mod identity;
mod idmap;
mod launch;
mod mounts;
mod namespaces;
mod options;
mod procfs;
mod program;
mod rooted;
mod selfexe;
mod sources;
mod task;
mod terminal;
mod through;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::cgroup::Cgroup;
use crate::protocol::{FirstProcess, OverlayOwners, OverlaySync};
use crate::spec::{ConsoleSize, Process, Spec};
pub use error::{LaunchError, LaunchErrorKind, Result};
pub use hooks::{State, Status, run_hooks};
pub use idmap::check as check_idmap;
pub use launch::start_time;
pub use selfexe::protect_runtime_binary;

/// What a container is made from.
#[derive(Debug)]
pub struct LaunchOptions<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The specification.
    pub spec: &'a Spec,
    /// The bundle's directory, from which relative paths of the specification start.
    pub bundle: &'a Path,
    /// The root file system.
    pub rootfs: Rootfs<'a>,
    /// Standard input, output and error.
    pub stdio: Stdio,
    /// The network namespace to join instead of what the specification says.
    pub netns: Option<BorrowedFd<'a>>,
    /// The cgroup to live in.
    pub cgroup: Option<&'a Cgroup>,
    /// A listening `SOCK_SEQPACKET` socket: whoever connects to it with [`open_gate`] starts the container. If missing,
    /// [`Launched::start`] does.
    pub gate: Option<BorrowedFd<'a>>,
    /// How many descriptors from 3 on the program keeps.
    pub preserve_fds: u32,
    /// Whether the process gets a session keyring of its own.
    pub keyring: Keyring,
    /// What the process executes.
    pub first: FirstProcess,
}

/// The root file system of a container.
#[derive(Debug, Clone, Copy)]
pub enum Rootfs<'a> {
    /// The directory that the specification names.
    Spec,
    /// An overlay, mounted inside the container's mount namespace only.
    Overlay {
        /// Read-only directories, topmost first.
        lower: &'a [PathBuf],
        /// Where changes go.
        upper: &'a Path,
        /// The overlay's scratch directory, on the file system of `upper`.
        work: &'a Path,
        /// What becomes of a program's wish to have its data on the disk.
        sync: OverlaySync,
        /// Who the files belong to.
        owners: OverlayOwners,
    },
}

/// Where a process's standard input, output and error go.
#[derive(Debug)]
pub enum Stdio {
    /// The caller's own.
    Inherit,
    /// These, in this order.
    Fds([OwnedFd; 3]),
    /// A new terminal of the container's own devpts; its master comes back in [`Launched::pty_master`].
    Terminal(ConsoleSize),
}

/// The session keyring of a process (keyrings(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keyring {
    /// A new one, so that the container can't read the caller's keys.
    #[default]
    Own,
    /// The caller's.
    Inherit,
}

/// A process that waits at its gate, or has passed it.
#[derive(Debug)]
pub struct Launched {
    /// Its process id, in the caller's pid namespace. It is a child of the caller.
    pub pid: i32,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
    /// When it started, in clock ticks since boot: with the pid, this names it for good.
    pub start_time: u64,
    /// The master of its terminal, if it has one.
    pub pty_master: Option<OwnedFd>,
    gate: Option<OwnedFd>,
}

/// The container that [`exec`] enters.
#[derive(Debug, Clone, Copy)]
pub struct ExecTarget<'a> {
    /// The pid of its first process, in the caller's pid namespace.
    pub pid: i32,
    /// A descriptor of it.
    pub pidfd: BorrowedFd<'a>,
    /// Its cgroup.
    pub cgroup: Option<&'a Cgroup>,
    /// The container's specification: seccomp filter and id maps, and nothing else, are taken from it.
    pub spec: &'a Spec,
    /// The container's id.
    pub id: &'a str,
    /// How many descriptors from 3 on the program keeps.
    pub preserve_fds: u32,
}

/// Clones a container's first process and returns when it waits at its gate. On failure nothing is left.
pub fn launch(options: LaunchOptions<'_>) -> Result<Launched> {
    launch::launch(&options)
}

/// Clones a process that enters a container and returns when it waits at its gate. On failure nothing is left.
pub fn exec(target: &ExecTarget<'_>, process: &Process, stdio: Stdio) -> Result<Launched> {
    enter::exec(target, process, &stdio)
}

/// Starts a container through a connection to the listening socket with which it was launched, and returns when its program runs.
pub fn open_gate(connection: OwnedFd) -> Result<()> {
    launch::open(connection)
}

impl Launched {
    /// Lets the process through its gate and returns when its program runs, or tells why `execve` failed; the process is then
    /// about to exit and has to be waited for.
    pub fn start(&mut self) -> Result<()> {
        match self.gate.take() {
            Some(gate) => launch::open(gate),
            None => Err(LaunchError::wrong_state("the process was started before")),
        }
    }

    /// Kills a process that is not to be started, and waits for its end.
    pub fn abandon(self) {
        launch::kill_and_wait(&self.pidfd);
    }
}

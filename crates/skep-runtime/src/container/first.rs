//! The child's side of [`super::launch`]: from the clone to the gate, in the order that the kernel's rules impose.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use skep_sys::mount::{self, Change, Depth, Propagation, attribute};
use skep_sys::ns::{self, kind};
use skep_sys::process::{self, CloseHow};

use super::cgroupfs::View;
use super::channel::{self, Order, Report};
use super::error::{LaunchError, LaunchErrorKind, Result, Step};
use super::finish::{self, Gate, Surroundings};
use super::hooks::{State, Status, run_hooks};
use super::identity::{self, Groups};
use super::namespaces::Namespaces;
use super::options::propagation_of;
use super::sources::Sources;
use super::task::Task;
use super::terminal::{self, Terminal};
use super::{LaunchOptions, Rootfs, Stdio, devices, mounts, procfs};
use crate::cgroup::{Cgroup, Entrance};
use crate::spec::Spec;

/// Everything that the child takes over from its parent.
pub(super) struct First<'a> {
    pub(super) options: &'a LaunchOptions<'a>,
    pub(super) plan: &'a Namespaces,
    pub(super) task: &'a Task,
    /// What the parent opened for it before it was born.
    pub(super) sources: Option<Sources>,
    pub(super) groups: Groups,
    /// The way into the cgroup for a child that is born without rights over it.
    pub(super) entrance: Option<Entrance>,
    pub(super) channel: OwnedFd,
    /// The parent's end of the channel, which is copied into the child: closed, so that the parent's end is noticed.
    pub(super) parents: RawFd,
}

impl First<'_> {
    /// Runs the child. It ends here if it fails, and has told the parent by then.
    pub(super) fn run(self) -> ! {
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
        let Self { options, plan, task, groups, parents, .. } = *self;
        let sources = self.sources.take();
        let channel = &self.channel;
        process::reset_signals();
        close_parents(parents)?;
        let pid = expect_go(channel)?;
        let spec = options.spec;
        enter_cgroup(options.cgroup, self.entrance.as_ref())?;
        if !plan.joins_user() {
            plan.enter()?;
        }
        if plan.has_user() {
            identity::become_namespace_root(groups)?;
        }
        ns::unshare(plan.unshared()).step("unshare")?;
        rustix::process::setsid().step("setsid")?;
        rustix::process::umask(rustix::fs::Mode::empty());
        if plan.new & kind::NETWORK != 0 {
            ns::loopback_up().step("switch on the loopback interface")?;
        }
        let sources = match plan.cloned() & kind::USER {
            0 => sources,
            _ => take_over(channel, spec.mounts.len())?,
        };
        let (root, binds) = place_root(options, sources)?;
        close_the_rest(&root, &binds, channel, options)?;
        names(spec)?;

        let view = if plan.new & kind::CGROUP != 0 { View::Namespaced } else { View::Host };
        let mut made = mounts::make_all(root.as_fd(), spec, binds, &view)?;
        devices::make_all(root.as_fd(), spec)?;
        let terminal = match options.stdio {
            Stdio::Terminal(size) => Some(Terminal::open(root.as_fd(), size)?),
            Stdio::Inherit | Stdio::Fds(_) => None,
        };
        if let Some(terminal) = &terminal {
            terminal.show_as_console(root.as_fd())?;
        }
        finish::make_directory(root.as_fd(), &task.cwd)?;
        if !spec.linux().sysctl.is_empty() {
            let proc = made.proc.take().map_or_else(procfs::private, Ok)?;
            procfs::write_sysctls(&proc, spec)?;
            made.proc = Some(proc);
        }
        let state = |status| State::new(options.id, spec, options.bundle, status, pid);
        hooks(options, channel, &state(Status::Creating))?;
        let null = devices::null()?;
        mounts::make_read_only(root.as_fd(), &spec.linux().readonly_paths)?;
        mounts::mask(root.as_fd(), &spec.linux().masked_paths, &null)?;
        drop(null);
        seal(&root, spec, &made.read_only_later)?;
        mount::pivot_to(&root).step("pivot_root")?;
        drop(root);
        late_propagation(spec)?;

        let master = stdio(options, terminal, task.user.uid)?;
        let hooks = spec.hooks.as_ref();
        let around = Surroundings {
            id: options.id,
            groups,
            sets_limits: !plan.has_user(),
            keyring: options.keyring,
            first: options.first,
            proc: made.proc,
            preserve_fds: options.preserve_fds,
            start_hooks: hooks.map(|hooks| hooks.start_container.as_slice()).unwrap_or_default(),
            state: hooks.map(|_| state(Status::Created)),
        };
        let path = finish::prepare(task, &around)?;
        let listener = options.gate;
        Ok(finish::pass(task, &path, &around, Gate { channel: channel.as_fd(), listener }, master))
    }
}

/// Closes the copy of the parent's end of the channel.
pub(super) fn close_parents(fd: RawFd) -> Result<()> {
    let fd = fd.cast_unsigned();
    process::close_range(fd, fd, CloseHow::Now).step("close_range")
}

/// Waits until the parent has done its part.
pub(super) fn expect_go(channel: &OwnedFd) -> Result<i32> {
    match channel::receive::<Order>(channel)? {
        Some((Order::Go { pid }, _)) => Ok(pid),
        Some(_) => Err(LaunchError::system("start-up", "unexpected order")),
        None => process::exit_now(1),
    }
}

/// Takes what the parent opens for a child in a user namespace; nothing if it could not.
fn take_over(channel: &OwnedFd, mounts: usize) -> Result<Option<Sources>> {
    let unexpected = || LaunchError::system("start-up", "unexpected order");
    let mut root = None;
    let mut binds: Vec<Option<OwnedFd>> = std::iter::repeat_with(|| None).take(mounts).collect();
    loop {
        match channel::receive::<Order>(channel)? {
            Some((Order::Root, Some(fd))) => root = Some(fd),
            Some((Order::Bind { at }, Some(fd))) => *binds.get_mut(at).ok_or_else(unexpected)? = Some(fd),
            Some((Order::Mounts, _)) => return Ok(root.map(|root| Sources { root, binds })),
            Some(_) => return Err(unexpected()),
            None => process::exit_now(1),
        }
    }
}

/// Enters the cgroup by itself, which is much quicker than being moved.
fn enter_cgroup(cgroup: Option<&Cgroup>, entrance: Option<&Entrance>) -> Result<()> {
    let entered = match (entrance, cgroup) {
        (Some(entrance), _) => entrance.enter(),
        (None, Some(cgroup)) => cgroup.enter(),
        (None, None) => Ok(()),
    };
    entered.map_err(|error| LaunchError::system("enter cgroup", error.to_string()))
}

/// Cuts the mount namespace off the host's and puts the new root on top of the old one, still beside the process's own root: paths
/// of the host go on working until pivot_root.
fn place_root(options: &LaunchOptions<'_>, sources: Option<Sources>) -> Result<(OwnedFd, Vec<Option<OwnedFd>>)> {
    let wanted = options.spec.linux().rootfs_propagation.as_deref().unwrap_or("rslave");
    let (propagation, _) =
        propagation_of(wanted).ok_or_else(|| LaunchError::invalid(format!("unknown rootfsPropagation {wanted:?}")))?;
    let set = |depth, propagation| {
        let change = Change { propagation: Some(propagation), ..Change::default() };
        mount::change_root(depth, &change).step("set propagation of /")
    };
    match propagation {
        Propagation::Private => set(Depth::Tree, Propagation::Private)?,
        Propagation::Slave | Propagation::Unbindable => set(Depth::Tree, Propagation::Slave)?,
        Propagation::Shared => {}
    }
    let Sources { root, binds } = match sources {
        Some(sources) => sources,
        None => Sources::open(options.spec, options.bundle, options.rootfs, None)?,
    };
    if propagation == Propagation::Shared {
        // Sources that are shared stay so; what is put on / must not show on the host's.
        set(Depth::One, Propagation::Private)?;
    }
    let top = rustix::fs::open("/", rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .step("open /")?;
    mount::attach(&root, &top).step(match options.rootfs {
        Rootfs::Spec => "mount rootfs",
        Rootfs::Overlay { .. } => "mount overlay",
    })?;
    Ok((root, binds))
}

/// Closes every descriptor that is not needed any more. What the parent had open is none of the container's business, and
/// close-on-exec alone would leave it in reach of whoever may look into this process.
fn close_the_rest(
    root: &OwnedFd,
    binds: &[Option<OwnedFd>],
    channel: &OwnedFd,
    options: &LaunchOptions<'_>,
) -> Result<()> {
    let mut keep: Vec<BorrowedFd<'_>> = vec![root.as_fd(), channel.as_fd()];
    keep.extend(binds.iter().flatten().map(AsFd::as_fd));
    keep.extend(options.gate);
    if let Stdio::Fds(fds) = &options.stdio {
        keep.extend(fds.iter().map(AsFd::as_fd));
    }
    close_all_but(&keep, options.preserve_fds)
}

/// Closes all descriptors from 3 on but these, and the first `preserve` of them.
pub(super) fn close_all_but(keep: &[BorrowedFd<'_>], preserve: u32) -> Result<()> {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    keep.sort_unstable();
    let mut from = 3 + preserve;
    for fd in keep.into_iter().filter(|&fd| fd >= 3 + preserve).chain([u32::MAX]) {
        process::close_range(from, fd.saturating_sub(1), CloseHow::Now).step("close_range")?;
        from = fd.saturating_add(1);
    }
    Ok(())
}

fn names(spec: &Spec) -> Result<()> {
    if let Some(name) = spec.hostname.as_deref().filter(|name| !name.is_empty()) {
        rustix::system::sethostname(name.as_bytes()).step("sethostname")?;
    }
    if let Some(name) = spec.domainname.as_deref().filter(|name| !name.is_empty()) {
        rustix::system::setdomainname(name.as_bytes()).step("setdomainname")?;
    }
    match spec.linux().personality.as_ref() {
        None => Ok(()),
        Some(personality) => {
            let persona = match personality.domain.as_str() {
                "LINUX" => 0,
                "LINUX32" => 8,
                other => return Err(LaunchError::invalid(format!("unknown personality {other:?}"))),
            };
            process::set_personality(persona).step("personality")
        }
    }
}

/// Has the parent run the hooks of the runtime's namespaces, and runs those of the container's.
fn hooks(options: &LaunchOptions<'_>, channel: &OwnedFd, state: &State) -> Result<()> {
    let Some(hooks) = &options.spec.hooks else { return Ok(()) };
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        channel::send(channel, &Report::RunHooks, None)?;
        match channel::receive::<Order>(channel)? {
            Some((Order::HooksDone, _)) => {}
            _ => return Err(LaunchError::system("hooks", "the runtime has gone")),
        }
    }
    run_hooks("createContainer", &hooks.create_container, state)
}

/// Makes read-only what had to be written until now.
fn seal(root: &OwnedFd, spec: &Spec, later: &[OwnedFd]) -> Result<()> {
    let read_only = Change { set: attribute::READ_ONLY, ..Change::default() };
    for mounted in later {
        mount::change(mounted, Depth::One, &read_only).step("make mount read-only")?;
    }
    if spec.root.as_ref().is_some_and(|root| root.readonly) {
        mount::change(root, Depth::One, &read_only).step("make rootfs read-only")?;
    }
    Ok(())
}

/// Propagation that the new root is to have itself.
fn late_propagation(spec: &Spec) -> Result<()> {
    match spec.linux().rootfs_propagation.as_deref().and_then(propagation_of) {
        Some((propagation @ (Propagation::Shared | Propagation::Unbindable), depth)) => {
            let change = Change { propagation: Some(propagation), ..Change::default() };
            mount::change_root(depth, &change).step("set propagation of the container's /")
        }
        _ => Ok(()),
    }
}

fn stdio(options: &LaunchOptions<'_>, terminal: Option<Terminal>, owner: u32) -> Result<Option<OwnedFd>> {
    if let Some(terminal) = terminal {
        terminal.use_as_stdio(owner)?;
        return Ok(Some(terminal.master));
    }
    if let Stdio::Fds(fds) = &options.stdio {
        terminal::use_as_stdio(fds.each_ref().map(AsFd::as_fd))?;
    }
    terminal::give_pipes(owner);
    Ok(None)
}

/// A process that vanished without a word.
pub(super) fn vanished(step: &'static str) -> LaunchError {
    LaunchError { kind: LaunchErrorKind::System, ..LaunchError::system(step, "the process ended without a word") }
}

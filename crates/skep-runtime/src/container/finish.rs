//! The last steps of a new process, the same for a container's first one and for one that enters: from inside the container, with all
//! its privileges, to the user's program.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use skep_sys::process::{self, CloseHow};

use super::channel::{self, Order, Report};
use super::error::{LaunchError, Result, Step};
use super::hooks::{State, run_hooks};
use super::identity::{self, Groups};
use super::task::Task;
use super::{Keyring, procfs, program, rooted};
use crate::protocol::FirstProcess;
use crate::spec::Hook;

/// What the last steps need to know besides the task.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) id: &'a str,
    pub(super) groups: Groups,
    /// Whether the process sets its own resource limits; else its parent has.
    pub(super) sets_limits: bool,
    pub(super) keyring: Keyring,
    pub(super) first: FirstProcess,
    /// A procfs of ours, if there is one already.
    pub(super) proc: Option<OwnedFd>,
    pub(super) preserve_fds: u32,
    pub(super) start_hooks: &'a [Hook],
    pub(super) state: Option<State>,
}

/// The sockets of a process on its way to the gate.
#[derive(Debug)]
pub(super) struct Gate<'a> {
    /// To the parent.
    pub(super) channel: BorrowedFd<'a>,
    /// Where somebody else knocks, if it is not the parent that starts it.
    pub(super) listener: Option<BorrowedFd<'a>>,
}

/// Prepares everything but what has to wait for the gate, reports that it is ready (with the terminal), and finds the program.
pub(super) fn prepare(task: &Task, around: &Surroundings<'_>) -> Result<CString> {
    labels(task, around.proc.as_ref())?;
    if around.keyring == Keyring::Own {
        let name = CString::new(format!("_ses.{}", around.id)).unwrap_or_default();
        process::join_session_keyring(&name).step("join session keyring")?;
    }
    if let Some(policy) = task.scheduling.policy {
        process::set_scheduler(policy).step("sched_setattr")?;
    }
    if let Some(priority) = task.scheduling.io_priority {
        process::set_io_priority(priority).step("ioprio_set")?;
    }
    if around.sets_limits {
        identity::set_limits(task)?;
    }
    rustix::process::umask(Mode::from_raw_mode(task.user.umask.unwrap_or(0o022)));
    if task.no_new_privileges {
        rustix::thread::set_no_new_privs(true).step("no_new_privs")?;
    }
    // A directory may be closed to the user and open to root, or the other way round (on network file systems).
    let moved = change_directory(&task.cwd);
    identity::become_user(&task.user, task.capabilities.as_ref(), around.groups)?;
    if let Err(error) = moved {
        match error.errno {
            Some(libc::EACCES | libc::EPERM) => change_directory(&task.cwd)?,
            _ => return Err(error),
        }
    }
    // ENOENT: the directory is outside of the root (CVE-2024-21626).
    rustix::process::getcwd(Vec::new()).step("current working directory is outside of container root")?;
    program::find(task)
}

fn labels(task: &Task, proc: Option<&OwnedFd>) -> Result<()> {
    if task.apparmor_profile.is_none() && task.selinux_label.is_none() {
        return Ok(());
    }
    let private = match proc {
        Some(_) => None,
        None => Some(procfs::private()?),
    };
    let Some(proc) = proc.or(private.as_ref()) else { return Ok(()) };
    if let Some(profile) = &task.apparmor_profile {
        procfs::set_label(proc, ["apparmor/exec", "exec"], &format!("exec {profile}"))?;
    }
    if let Some(label) = &task.selinux_label {
        procfs::set_label(proc, ["exec", "exec"], label)?;
    }
    Ok(())
}

fn change_directory(cwd: &Path) -> Result<()> {
    let step = || format!("chdir to cwd ({:?}) set in config.json failed", cwd.display().to_string());
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step("open root")?;
    let directory = rooted::open(root, cwd, OFlags::PATH | OFlags::DIRECTORY).step_with(step)?;
    rustix::process::fchdir(directory).step_with(step)
}

/// Reports ready, waits to be let through, and executes the program. Returns only with an error, after telling it whoever waits.
pub(super) fn pass(
    task: &Task,
    path: &CString,
    around: &Surroundings<'_>,
    gate: Gate<'_>,
    master: Option<OwnedFd>,
) -> LaunchError {
    let mut visitor = None;
    let result = channel::send(gate.channel, &Report::Ready, master.as_ref().map(AsFd::as_fd))
        .and_then(|()| {
            drop(master);
            match gate.listener {
                Some(listener) => accept(listener).map(|socket| visitor = Some(socket)),
                None => wait(gate.channel),
            }
        })
        .and_then(|()| execute(task, path, around));
    let Err(error) = result;
    channel::fail(visitor.as_ref().map_or(gate.channel, AsFd::as_fd), error.clone());
    error
}

/// Waits on the channel for the order to start. Its end means that nobody will ever give it.
fn wait(channel: BorrowedFd<'_>) -> Result<()> {
    match channel::receive::<Order>(channel)? {
        Some((Order::Start, _)) => Ok(()),
        Some(_) => Err(LaunchError::system("gate", "unexpected order")),
        None => process::exit_now(1),
    }
}

fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    loop {
        let socket = rustix::io::retry_on_intr(|| accept_with(listener, SocketFlags::CLOEXEC)).step("accept")?;
        // Who connects and says nothing has changed their mind.
        if let Ok(Some((Order::Start, _))) = channel::receive::<Order>(&socket) {
            return Ok(socket);
        }
    }
}

fn execute(task: &Task, path: &CString, around: &Surroundings<'_>) -> Result<Infallible> {
    if let Some(state) = &around.state {
        run_hooks("startContainer", around.start_hooks, state)?;
    }
    let env = environment(task);
    // Everything that is not the program's goes, whoever opened it and however.
    process::close_range(3 + around.preserve_fds, u32::MAX, CloseHow::OnExec).step("close_range")?;
    let load = || match &task.seccomp {
        Some(program) => program.load().map(drop).map_err(|error| LaunchError::system("seccomp", error.to_string())),
        None => Ok(()),
    };
    // Without no_new_privs only who has CAP_SYS_ADMIN may load a filter; with it, the later the fewer calls it has to allow.
    if !task.no_new_privileges {
        load()?;
    }
    if let Some(sets) = &task.capabilities {
        identity::drop_capabilities(sets)?;
    }
    if task.no_new_privileges {
        load()?;
    }
    if around.first == FirstProcess::Init {
        crate::init::hold_signals().step("sigprocmask")?;
    }
    Err(program::refused(path, process::execve(path, &task.args, &env)))
}

/// The environment, with HOME as runc sets it where the specification does not.
fn environment(task: &Task) -> Vec<CString> {
    let mut env = task.env.clone();
    if task.variable("HOME").is_none_or(<[u8]>::is_empty) {
        env.retain(|pair| pair.to_bytes() != b"HOME=");
        let home = home_of(task.user.uid).unwrap_or_else(|| "/".into());
        let pair = [b"HOME=", home.as_encoded_bytes()].concat();
        env.extend(CString::new(pair));
    }
    env
}

/// The home directory in the container's /etc/passwd. A file that is no file, or is too big, has none.
fn home_of(uid: u32) -> Option<std::ffi::OsString> {
    const MAX: u64 = 1 << 20;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let fd = rooted::open(root, Path::new("/etc/passwd"), flags).ok()?;
    if FileType::from_raw_mode(fstat(&fd).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut text = Vec::new();
    std::fs::File::from(fd).take(MAX).read_to_end(&mut text).ok()?;
    home_in(&text, uid)
}

fn home_in(passwd: &[u8], uid: u32) -> Option<std::ffi::OsString> {
    let uid = uid.to_string();
    passwd.split(|&byte| byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
        let [_, _, number, _, _, home, ..] = fields.as_slice() else { return None };
        (*number == uid.as_bytes() && !home.is_empty()).then(|| OsStr::from_bytes(home).to_owned())
    })
}

/// Makes the working directory inside `root` if it is missing, as every runtime does.
pub(super) fn make_directory(root: impl AsFd, cwd: &Path) -> Result<()> {
    let step = || format!("make working directory {}", cwd.display());
    match rooted::ensure(root, cwd, rooted::Last::Directory) {
        // A read-only file system: the attempt to enter tells what is wrong.
        Ok(_) | Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => Ok(()),
        // A link of procfs: refused here and now, before anything could follow it.
        Err(error) => Err(LaunchError::os(step(), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_that_of_the_number() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbroken\nu:x:1000:1000::/home/u:\n10:x:5:5::/ten:\nv:x:6:6::\n";
        assert_eq!(home_in(passwd, 0).as_deref(), Some(OsStr::new("/root")));
        assert_eq!(home_in(passwd, 1000).as_deref(), Some(OsStr::new("/home/u")));
        assert_eq!(home_in(passwd, 10), None, "a name is not a number");
        assert_eq!(home_in(passwd, 6), None);
    }
}

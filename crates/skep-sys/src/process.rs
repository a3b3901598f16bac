//! Making processes: the one fork primitive, execve, and the calls around them that rustix does not have.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Of clone3(2); libc's constant does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A cloned child.
#[derive(Debug)]
pub struct Child {
    /// Its pid in the caller's pid namespace.
    pub pid: i32,
    /// A descriptor of it, close-on-exec.
    pub pidfd: OwnedFd,
}

/// `struct clone_args` of clone3(2), as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Clones the calling process (clone3(2)) with the namespace flags given, and runs `body` in the child, which ends with
/// `body`'s value as exit code.
///
/// `cgroup` is the directory of a cgroup v2 to start in. Fails with EBUSY if the caller has more than one thread: only then is
/// ordinary code allowed in the child.
pub fn clone_child(namespaces: i32, cgroup: Option<BorrowedFd<'_>>, body: impl FnOnce() -> i32) -> io::Result<Child> {
    // Signals about the child's end are SIGCHLD as after fork.
    clone_with(namespaces, libc::SIGCHLD as u64, cgroup, body)
}

/// As [`clone_child`], but the new process is a child of the caller's parent (`CLONE_PARENT`): the caller can go.
pub fn clone_sibling(namespaces: i32, cgroup: Option<BorrowedFd<'_>>, body: impl FnOnce() -> i32) -> io::Result<Child> {
    // Signals about its end are those about the caller's.
    clone_with(namespaces | libc::CLONE_PARENT, 0, cgroup, body)
}

fn clone_with(
    flags: i32,
    exit_signal: u64,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> io::Result<Child> {
    single_threaded()?;
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: u64::from(flags.cast_unsigned()) | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid clone_args of the size given, `pidfd` outlives the call, no stack and no shared memory are asked
    // for, so the child goes on with a copy of everything; and there is no other thread whose locks it could miss.
    let mut pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    if pid == -1 && cgroup.is_none() && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        // Docker's filter answers so to clone3, whose flags it can't see, and lets clone pass. The init of `--init` lives under it.
        let flags = args.flags | exit_signal;
        // SAFETY: as above; clone(2) writes the descriptor where its third argument points when CLONE_PIDFD is set.
        pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, &raw mut pidfd, 0usize, 0usize) };
    }
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(255);
            exit_now(code)
        }
        pid => {
            // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: i32::try_from(pid).unwrap_or(i32::MAX), pidfd })
        }
    }
}

/// Fails with EBUSY if the calling process has more than one thread. Where a filter refuses unshare(2) it can't be told; that is
/// only so inside containers, where the init of `--init` never makes threads.
fn single_threaded() -> io::Result<()> {
    // SAFETY: unshare(CLONE_THREAD) has no effect in a single-threaded process and is refused in any other (unshare(2)).
    if unsafe { libc::unshare(libc::CLONE_THREAD) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EINVAL) => Err(io::Error::from_raw_os_error(libc::EBUSY)),
        _ => Ok(()),
    }
}

/// Ends the process at once: no destructors, no exit handlers, no flushing.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any value and never returns.
    unsafe { libc::_exit(code) }
}

/// A list of C strings with the null pointer at its end that execve wants.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Replaces the program of the process (execve(2)). Returns only to tell why that failed.
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: all pointers are of live C strings, and both lists end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Replaces the program of the process with the file behind `file` (execveat(2)). Returns only to tell why that failed.
pub fn execve_fd(file: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: the descriptor is open, the path is an empty C string, both lists end with a null pointer.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// What happens to descriptors in [`close_range`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseHow {
    /// They are closed.
    Now,
    /// They will be closed by execve.
    OnExec,
}

/// Closes all descriptors from `first` to `last`, both included (close_range(2), Linux 5.11 for [`CloseHow::OnExec`]).
///
/// Meant for a process about to execute another program: descriptors owned by values of this program are closed too, so none of
/// those values may be used or dropped afterwards with [`CloseHow::Now`].
pub fn close_range(first: u32, last: u32, how: CloseHow) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    let flags = match how {
        CloseHow::Now => 0,
        CloseHow::OnExec => libc::CLOSE_RANGE_CLOEXEC,
    };
    // SAFETY: the call touches descriptors only, no memory.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets all signals to their defaults and unblocks them. Rust programs ignore SIGPIPE, and shims block what they read from a
/// signalfd: both would be inherited.
pub fn reset_signals() {
    // The kernel's own structure, and its call: the C library keeps two signals for itself and would not touch them.
    let default = [0u64; 4];
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: four zeroes are a `struct sigaction` of the kernel with SIG_DFL, no flags and an empty mask; the old one is not
        // asked for. SIGKILL and SIGSTOP are refused, and need nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    // glibc's posix_spawn leaves those two ignored in what it spawns.
    for kept_by_libc in [32, 33] {
        // The kernel's struct sigaction: handler SIG_DFL, no flags, no restorer, an empty mask of eight bytes.
        let default = [0_u64; 4];
        // SAFETY: `default` is a whole struct sigaction of the kernel and is only read; the old one is not asked for.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, kept_by_libc, default.as_ptr(), std::ptr::null_mut::<u64>(), 8)
        };
    }
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `none` is writable memory of the right type, and sigemptyset fills all of it.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: `none` was filled above; the old set is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
}

/// Sends any signal, real-time ones included (pidfd_send_signal(2)).
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: an open descriptor and numbers; no signal information is passed.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Signals as something to read (signalfd(2)).
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks all signals that can be blocked, and collects them from now on.
    pub fn all() -> io::Result<Self> {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `set` is writable memory of the right type, and sigfillset fills all of it.
        unsafe { libc::sigfillset(set.as_mut_ptr()) };
        // SAFETY: `set` was filled above; the old set is not asked for.
        if unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `set` was filled above.
        let fd = unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd succeeded, so `fd` is a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal, if there is one.
    pub fn take(&self) -> Option<i32> {
        let mut record = [0u8; size_of::<libc::signalfd_siginfo>()];
        let length = rustix::io::read(&self.0, &mut record).ok()?;
        // The number is the first field.
        let number = record.first_chunk::<4>().filter(|_| length == record.len())?;
        i32::try_from(u32::from_ne_bytes(*number)).ok()
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives the process a new session keyring of that name (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`). Kernels without keyrings, and
/// filters that forbid the call, are not an error: there is nothing to protect then.
pub fn join_session_keyring(name: &CStr) -> io::Result<()> {
    // SAFETY: `name` is a C string that lives through the call.
    match unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) } {
        -1 => match io::Error::last_os_error() {
            error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
            error => Err(error),
        },
        _ => Ok(()),
    }
}

/// Sets the execution domain (personality(2)).
pub fn set_personality(persona: u32) -> io::Result<()> {
    // SAFETY: the call takes a number.
    match unsafe { libc::personality(libc::c_ulong::from(persona)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Sets the I/O priority of the calling process (ioprio_set(2)).
pub fn set_io_priority(priority: i32) -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    // SAFETY: the call takes numbers; 0 names the caller.
    match unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Does something with other file system ids, by which access to files is judged and which files that are made get, and with all
/// capabilities that the calling thread may have. Both are the thread's own; it has its own again afterwards.
pub fn with_fs_ids<T>((uid, gid): (u32, u32), work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    use rustix::thread::{CapabilitySets, capabilities, set_capabilities};
    let before = capabilities(None)?;
    let ids = set_fs_ids((uid, gid))?;
    // The change took those that are about files away.
    let raised = set_capabilities(None, CapabilitySets { effective: before.permitted, ..before });
    let done = raised.map_err(io::Error::from).and_then(|()| work());
    set_fs_ids(ids)?;
    set_capabilities(None, before)?;
    done
}

/// Sets the file system ids of the calling thread (setfsuid(2), setfsgid(2)) and returns those before. The kernel tells no failure: what
/// is in force is asked for afterwards.
fn set_fs_ids((uid, gid): (u32, u32)) -> io::Result<(u32, u32)> {
    // SAFETY: both calls take numbers and change nothing but two ids of the calling thread's.
    let before = unsafe { (libc::setfsuid(uid), libc::setfsgid(gid)) };
    // SAFETY: as above; an id that no one can have changes nothing.
    let now = unsafe { (libc::setfsuid(u32::MAX), libc::setfsgid(u32::MAX)) };
    match (now.0.cast_unsigned(), now.1.cast_unsigned()) == (uid, gid) {
        true => Ok((before.0.cast_unsigned(), before.1.cast_unsigned())),
        false => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}

/// Scheduling policy and parameters: `struct sched_attr` of sched_setattr(2) without what it has of later kernels.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the manual page has the names")]
pub struct SchedulerAttributes {
    size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// Sets policy and parameters of the calling process (sched_setattr(2)).
pub fn set_scheduler(mut attributes: SchedulerAttributes) -> io::Result<()> {
    attributes.size = 48;
    // SAFETY: the structure is valid, of the size that it names, and lives through the call.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw mut attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threaded_process_may_not_clone() {
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || receive.recv());
        let error = clone_child(0, None, || 0).expect_err("this process has two threads");
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
        drop(send);
        let _ = thread.join();
    }

    #[test]
    fn an_empty_range_closes_nothing() {
        close_range(u32::MAX, 3, CloseHow::Now).expect("nothing to do");
    }
}

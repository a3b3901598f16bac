//! Namespaces: joining them, leaving them, and the few things that are done inside.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The kinds of namespaces, as bits of clone3, unshare and setns.
pub mod kind {
    /// Mounts.
    pub const MOUNT: i32 = libc::CLONE_NEWNS;
    /// Host and domain name.
    pub const UTS: i32 = libc::CLONE_NEWUTS;
    /// System V IPC and message queues.
    pub const IPC: i32 = libc::CLONE_NEWIPC;
    /// Network.
    pub const NETWORK: i32 = libc::CLONE_NEWNET;
    /// Process ids.
    pub const PID: i32 = libc::CLONE_NEWPID;
    /// Users.
    pub const USER: i32 = libc::CLONE_NEWUSER;
    /// The root of the cgroups.
    pub const CGROUP: i32 = libc::CLONE_NEWCGROUP;
    /// Clocks. Not for clone3 on kernels of today: a process can't change its own.
    pub const TIME: i32 = libc::CLONE_NEWTIME;
}

/// Enters namespaces (setns(2)): the one behind a namespace descriptor, or with a pidfd those of the kinds given of a process.
/// Joining a pid namespace counts for children only.
pub fn enter(fd: impl AsFd, kinds: i32) -> io::Result<()> {
    // SAFETY: an open descriptor and a number; no memory is touched.
    match unsafe { libc::setns(fd.as_fd().as_raw_fd(), kinds) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Moves the calling process into new namespaces of these kinds (unshare(2)).
pub fn unshare(kinds: i32) -> io::Result<()> {
    // SAFETY: only namespace kinds are passed on, none of the kinds of sharing that memory safety could depend on.
    match unsafe { libc::unshare(kinds & ALL) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

const ALL: i32 =
    kind::MOUNT | kind::UTS | kind::IPC | kind::NETWORK | kind::PID | kind::USER | kind::CGROUP | kind::TIME;

/// Switches the loopback interface of the calling process's network namespace on (netdevice(7), `SIOCSIFFLAGS`).
pub fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    interface_up(socket.as_fd())
}

/// `IFF_UP | IFF_RUNNING`.
const UP_AND_RUNNING: libc::c_short = 0x1 | 0x40;

fn interface_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: ifreq is plain old data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = UP_AND_RUNNING;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which lives through the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

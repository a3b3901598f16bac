//! Network namespaces of threads.
//!
//! Both functions change the calling *thread* and nothing else of the process, so they are meant for threads that end
//! soon after: a thread that entered a namespace must not go back to a pool.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Gives the calling thread a new network namespace and returns a descriptor that keeps it alive.
pub fn unshare_thread() -> io::Result<OwnedFd> {
    // SAFETY: CLONE_NEWNET replaces only the namespace that the thread's future sockets and /proc/sys/net lookups
    // belong to; unlike CLONE_FILES or CLONE_FS it does not change what open descriptors or paths refer to.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    current()
}

/// Moves the calling thread into a network namespace.
pub fn enter(netns: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?)
}

/// The calling thread's network namespace.
pub fn current() -> io::Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

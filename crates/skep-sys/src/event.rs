//! What a process that waits in one place needs beyond epoll: signals as a descriptor, and little memory while it sleeps.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The set of `signals`. A number that is no signal gives EINVAL.
fn set_of(signals: &[i32]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the memory is of the right type, and sigemptyset fills all of it.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: sigemptyset has initialised it.
    let mut set = unsafe { set.assume_init() };
    for &signal in signals {
        // SAFETY: the set is initialised; a number that is no signal is refused.
        if unsafe { libc::sigaddset(&raw mut set, signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(set)
}

/// Blocks `signals` for the calling thread (sigprocmask(2)). Children inherit that until they reset it.
pub fn block_signals(signals: &[i32]) -> io::Result<()> {
    let set = set_of(signals)?;
    // SAFETY: the set is initialised, the old set is not asked for.
    match unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Blocks `signals` and returns a non-blocking descriptor that is readable when one of them is pending (signalfd(2)).
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    block_signals(signals)?;
    let set = set_of(signals)?;
    // SAFETY: the set is initialised; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: signalfd has just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until one of `signals`, which must be blocked, is pending, and takes it (sigwaitinfo(2)).
pub fn wait_for_signal(signals: &[i32]) -> io::Result<i32> {
    let set = set_of(signals)?;
    loop {
        // SAFETY: the set is initialised, further information is not asked for.
        let signal = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
        if signal > 0 {
            return Ok(signal);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Tells the allocator to give blocks of 32 KiB and more back to the system as soon as they are freed.
pub fn return_large_blocks() {
    const SMALLEST: libc::c_int = 32 << 10;
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes numbers; what it does not understand it ignores.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, SMALLEST)
    };
}

/// Gives memory that the allocator keeps for later back to the system.
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim only releases what is free.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Sends any signal, real-time ones included, to the process behind a descriptor (pidfd_send_signal(2)).
pub fn signal_process(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open; a null siginfo asks for the one that kill(2) would send.
    let done = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

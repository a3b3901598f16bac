//! Descriptors that a service manager left open for this process (sd_listen_fds(3)).

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first descriptor that is passed on.
pub const FIRST: RawFd = 3;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the descriptors `FIRST..FIRST + count`, close-on-exec from now on. Works once per process, and must come before the
/// process opens listeners of its own; a descriptor among them that isn't a listening socket is an error.
pub fn take(count: usize) -> io::Result<Vec<OwnedFd>> {
    let end = RawFd::try_from(count).ok().and_then(|count| FIRST.checked_add(count));
    let end = end.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "too many passed descriptors"))?;
    for raw in FIRST..end {
        let unusable = |why: &dyn std::fmt::Display| io::Error::other(format!("passed descriptor {raw}: {why}"));
        // SAFETY: borrowed for two system calls only; a number that isn't open makes them fail with EBADF, nothing else.
        let descriptor = unsafe { BorrowedFd::borrow_raw(raw) };
        if !rustix::net::sockopt::socket_acceptconn(descriptor).map_err(|errno| unusable(&errno))? {
            return Err(unusable(&"it does not listen"));
        }
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC).map_err(|errno| unusable(&errno))?;
    }
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the passed descriptors were taken already"));
    }
    // SAFETY: open (just seen), and nobody else owns them: they listened before the program began to, and are handed out once.
    Ok((FIRST..end).map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_not_open_is_not_taken() {
        let error = super::take(100_000).expect_err("nobody has that many");
        assert!(error.to_string().starts_with("passed descriptor "), "{error}");
        assert!(super::take(usize::MAX).is_err());
    }
}

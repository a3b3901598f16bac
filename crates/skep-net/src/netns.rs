//! Network namespaces, and a small pool of them kept ready.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, openat};
use skep_sys::netns;

use crate::error::NetError;
use crate::netlink::{Batch, Socket, route};

const LOOPBACK_INDEX: u32 = 1;
const IPV6_SETTINGS: &str = "/proc/sys/net/ipv6/conf";

/// A network namespace with its loopback up, held only by descriptors.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    /// Opened inside, so that links can be set up from any thread.
    route: Mutex<Socket>,
    /// The namespace's IPv6 settings; `None` on a kernel without IPv6.
    ipv6: Option<OwnedFd>,
}

impl Netns {
    /// Makes a new one.
    pub fn create() -> Result<Self, NetError> {
        in_thread(|| {
            let fd = netns::unshare_thread().map_err(|source| NetError::Namespace { operation: "unshare", source })?;
            let netns = Netns::here(fd)?;
            let mut batch = Batch::new();
            route::set_up(&mut batch, LOOPBACK_INDEX);
            netns.route.lock().run(&batch).map_err(|refused| NetError::Link {
                operation: "set up",
                object: "lo".to_owned(),
                source: refused.into(),
            })?;
            Ok(netns)
        })
    }

    /// One that exists, such as `/proc/<pid>/ns/net` of a running container.
    pub fn open(fd: OwnedFd) -> Result<Self, NetError> {
        in_thread(|| {
            netns::enter(fd.as_fd()).map_err(|source| NetError::Namespace { operation: "enter", source })?;
            Netns::here(fd)
        })
    }

    /// The calling thread's namespace, which `fd` stands for.
    fn here(fd: OwnedFd) -> Result<Self, NetError> {
        let route = Socket::route().map_err(|source| NetError::Socket { operation: "open in namespace", source })?;
        let ipv6 =
            rustix::fs::open(IPV6_SETTINGS, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok();
        Ok(Netns { fd, route: Mutex::new(route), ipv6 })
    }

    /// The descriptor to join the namespace by.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn route(&self) -> &Mutex<Socket> {
        &self.route
    }

    /// Turns IPv6 off or on for one interface.
    pub(crate) fn set_ipv6(&self, ifname: &str, wanted: Ipv6) -> io::Result<()> {
        let Some(settings) = &self.ipv6 else { return Ok(()) };
        let file = openat(settings, format!("{ifname}/disable_ipv6"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        let value: &[u8] = if wanted == Ipv6::Off { b"1" } else { b"0" };
        rustix::io::write(file, value)?;
        Ok(())
    }
}

/// Whether an interface has IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ipv6 {
    On,
    Off,
}

/// Runs `work` in a thread of its own, since it changes the thread's namespace.
fn in_thread(work: impl FnOnce() -> Result<Netns, NetError> + Send) -> Result<Netns, NetError> {
    let failed = |source| NetError::Namespace { operation: "start a thread", source };
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work).map_err(failed)?;
        worker.join().unwrap_or_else(|_| Err(failed(io::Error::other("the thread panicked"))))
    })
}

/// Namespaces made ahead of time. They are held by descriptors only: none stays behind when the engine dies.
#[derive(Debug)]
pub struct NetnsPool {
    size: usize,
    ready: Mutex<Vec<Netns>>,
}

impl NetnsPool {
    /// A pool that [`NetnsPool::refill`] fills up to `size`.
    pub fn new(size: usize) -> Self {
        NetnsPool { size, ready: Mutex::new(Vec::with_capacity(size)) }
    }

    /// Takes a namespace, or makes one if the pool is empty.
    pub fn take(&self) -> Result<Netns, NetError> {
        let ready = self.ready.lock().pop();
        ready.map_or_else(Netns::create, Ok)
    }

    /// Fills the pool up. To be called from a thread that nobody waits for.
    pub fn refill(&self) -> Result<(), NetError> {
        while self.ready.lock().len() < self.size {
            let netns = Netns::create()?;
            let mut ready = self.ready.lock();
            // Several threads may refill at once; the last one's namespace goes away again.
            if ready.len() < self.size {
                ready.push(netns);
            }
        }
        Ok(())
    }
}

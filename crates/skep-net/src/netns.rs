//! Network namespaces, and a small pool of them kept ready.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
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

    /// Gives a new interface IPv6, or takes it away so that it does not take addresses and routes that others on the link
    /// announce. Routers are the engine's business in either case.
    pub(crate) fn set_up_ipv6(&self, ifname: &str, wanted: bool) -> io::Result<()> {
        if !wanted {
            return self.write_ipv6(&format!("{ifname}/disable_ipv6"), "1");
        }
        self.write_ipv6(&format!("{ifname}/accept_ra"), "0")?;
        // The engine gives each address away once only; waiting for objections would delay the first packet by a second.
        self.write_ipv6(&format!("{ifname}/accept_dad"), "0")?;
        self.write_ipv6(&format!("{ifname}/disable_ipv6"), "0")
    }

    /// Writes a setting of an interface: `net.ipv4.conf.IFNAME.log_martians`, where `IFNAME` stands for its name.
    pub(crate) fn set_sysctl(&self, ifname: &str, name: &str, value: &str) -> Result<(), NetError> {
        let path = interface_setting(ifname, name)?;
        in_thread(|| {
            netns::enter(self.fd()).map_err(|source| NetError::Namespace { operation: "enter", source })?;
            std::fs::write(&path, value).map_err(|source| match source.kind() {
                // Clients take "no such file" for a program that the container lacks.
                io::ErrorKind::NotFound => NetError::Config(format!("{} is not a sysctl file", path.display())),
                _ => NetError::File { path: path.clone(), source },
            })
        })
    }

    fn write_ipv6(&self, name: &str, value: &str) -> io::Result<()> {
        let Some(settings) = &self.ipv6 else { return Ok(()) };
        let file = openat(settings, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(file, value.as_bytes())?;
        Ok(())
    }
}

/// The file of an interface's setting. Nothing but settings of this one interface can be named.
fn interface_setting(ifname: &str, name: &str) -> Result<PathBuf, NetError> {
    let parts: Vec<&str> = name.splitn(5, '.').collect();
    match parts[..] {
        ["net", family @ ("ipv4" | "ipv6" | "mpls"), group, "IFNAME" | "ifname", setting]
            if plain(group) && plain(setting) =>
        {
            Ok(["/proc/sys/net", family, group, ifname, setting].iter().collect())
        }
        _ => Err(NetError::Config(format!("unrecognised network interface sysctl '{name}'"))),
    }
}

fn plain(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Runs `work` in a thread of its own, since it changes the thread's namespace.
fn in_thread<T: Send>(work: impl FnOnce() -> Result<T, NetError> + Send) -> Result<T, NetError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_one_interface_only_can_be_named() {
        let path = |name: &str| interface_setting("eth0.5", name).ok().map(|p| p.display().to_string());
        let expected = "/proc/sys/net/ipv4/conf/eth0.5/log_martians".to_owned();
        assert_eq!(path("net.ipv4.conf.IFNAME.log_martians"), Some(expected));
        for bad in ["net.ipv4.conf.eth1.log_martians", "net.ipv4.conf.IFNAME.../ip_forward", "kernel.a.b.IFNAME.c", "x"]
        {
            assert_eq!(path(bad), None, "{bad}");
        }
    }
}

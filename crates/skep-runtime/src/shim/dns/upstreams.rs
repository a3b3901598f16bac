//! Whom to ask: what the engine says about the container, and what the host's resolv.conf says now.
//!
//! Both files are looked at for each question (stat(2)) and read when they are others than before.

use std::fs::Metadata;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use skep_dns::resolv::{RESOLVED_FILE, ResolvConf};
use skep_dns::{Client, Forward};

/// For how long the first server is left alone after others had to answer for it.
const SHUNNED: Duration = Duration::from_secs(30);

/// Whose network servers are asked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Host,
    Container,
}

/// Servers in the order in which they are asked. Not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upstreams {
    pub(super) place: Place,
    pub(super) servers: Rc<[SocketAddr]>,
}

/// The files, and what was last read from them.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    stamp: Option<Stamp>,
    client: Rc<Client>,
    host_stamp: [Option<Stamp>; 2],
    host: Rc<[SocketAddr]>,
    given: Rc<[SocketAddr]>,
    /// The server that answered when an earlier one did not, and until when it comes first.
    favourite: Option<(SocketAddr, Instant)>,
}

/// What tells two states of a file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let from = |metadata: Metadata| Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        };
        std::fs::metadata(path).ok().map(from)
    }
}

impl Files {
    pub(super) fn new(path: PathBuf) -> Self {
        Files {
            path,
            stamp: None,
            client: Rc::default(),
            host_stamp: [None; 2],
            host: Rc::default(),
            given: Rc::default(),
            favourite: None,
        }
    }

    /// The container's file as it is now. One that is gone or broken leaves what was known.
    pub(super) fn client(&mut self) -> Rc<Client> {
        let stamp = Stamp::of(&self.path);
        if stamp.is_some() && stamp != self.stamp {
            let read = std::fs::read(&self.path).ok().and_then(|text| Client::from_text(&text).ok());
            if let Some(client) = read {
                self.given = match &client.forward {
                    // 127.0.0.11 as seen from the container is this server: that would be a circle.
                    Forward::Servers(servers) => {
                        let others = servers.iter().filter(|server| **server != IpAddr::V4(skep_dns::ADDRESS));
                        others.map(|&server| (server, skep_dns::PORT).into()).collect()
                    }
                    Forward::Host(_) | Forward::Nowhere => Rc::default(),
                };
                self.client = Rc::new(client);
            }
            self.stamp = stamp;
        }
        self.client.clone()
    }

    /// Who is asked about other names than those of containers; nobody if the container has no way out, or there is no server.
    pub(super) fn upstreams(&mut self, client: &Client) -> Option<Upstreams> {
        let (place, servers) = match &client.forward {
            Forward::Nowhere => return None,
            Forward::Servers(_) => (Place::Container, self.given.clone()),
            Forward::Host(path) => (Place::Host, self.host(path)),
        };
        if servers.is_empty() {
            return None;
        }
        Some(Upstreams { place, servers: self.favourite_first(servers) })
    }

    fn host(&mut self, path: &Path) -> Rc<[SocketAddr]> {
        let resolved = Path::new(RESOLVED_FILE);
        let stamp = [Stamp::of(path), Stamp::of(resolved)];
        if stamp != self.host_stamp || stamp[0].is_none() {
            let read = |path| ResolvConf::read(path).unwrap_or_default();
            let servers = read(path).upstreams(|| read(resolved));
            self.host = servers.iter().filter_map(|server| server.socket_address(interface_index)).collect();
            self.host_stamp = stamp;
        }
        self.host.clone()
    }

    fn favourite_first(&self, servers: Rc<[SocketAddr]>) -> Rc<[SocketAddr]> {
        let favourite = self.favourite.filter(|(_, until)| *until > Instant::now());
        let Some(at) = favourite.and_then(|(server, _)| servers.iter().position(|&other| other == server)) else {
            return servers;
        };
        let mut ordered = servers.to_vec();
        ordered[..=at].rotate_right(1);
        ordered.into()
    }

    /// A server answered after one before it had not.
    pub(super) fn answered_late(&mut self, server: SocketAddr) {
        self.favourite = Some((server, Instant::now() + SHUNNED));
    }
}

fn interface_index(name: &str) -> Option<u32> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    rustix::net::netdevice::name_to_index(socket, name).ok()
}

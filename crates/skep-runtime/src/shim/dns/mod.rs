//! The name server of the container, at 127.0.0.11 in its network namespace.
//!
//! It answers for the containers in its networks from files that the engine writes (`skep-dns`), and passes everything else on; so names
//! go on when the engine is gone. What it knows is in [`upstreams`]; [`datagrams`] and [`streams`] are the two ways in, each with its
//! way out. It lives in the shim's loop and never waits.
//!
//! ```text
//!  program ──udp, tcp──▶ 127.0.0.11:53 ═redirect═▶ our sockets ──▶ verdict ──▶ answer
//!                                                                    └──▶ servers of the host   (sockets of the host's namespace)
//!                                                                         or of --dns           (sockets of the container's)
//! ```
//!
//! The container is not trusted with memory: questions on their way, open streams and what each may hold are counted, and each event is
//! worked on for a bounded time, so that output and execs have their turn. Servers are not trusted with answers: each question goes out
//! with a random id from a port of its own, connected to the server, and only the answer to that question is taken.

mod datagrams;
mod redirect;
mod streams;
mod upstreams;
mod verdict;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use skep_sys::netns;

use self::datagrams::Question;
use self::streams::Stream;
use self::upstreams::{Files, Place};
use super::poll::{EventFlags, NameEvent, Poller, Token, Watched};

/// How long a server may take before the next one is asked, too.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the last one may take.
const LAST_PATIENCE: Duration = Duration::from_secs(4);
const BACKLOG: i32 = 64;

/// The server.
#[derive(Debug)]
pub(super) struct NameServer {
    poller: Poller,
    places: Places,
    datagrams: Watched,
    listener: Watched,
    files: Files,
    questions: BTreeMap<u32, Question>,
    streams: BTreeMap<u32, Stream>,
    next: u32,
    /// Keeps the rules in force.
    _redirect: Option<OwnedFd>,
}

/// Where the server listens, behind 127.0.0.11:53.
#[derive(Debug, Clone, Copy)]
struct Ports {
    datagrams: u16,
    streams: u16,
}

/// The namespaces that sockets are opened in.
#[derive(Debug)]
struct Places {
    host: OwnedFd,
    container: OwnedFd,
}

impl Places {
    /// Does something in the container's namespace. There is one thread, and it comes back.
    fn in_container<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        netns::enter(self.container.as_fd())?;
        let done = work();
        netns::enter(self.host.as_fd())?;
        done
    }

    /// A socket that is connected, or about to be, to a server.
    fn connect(&self, place: Place, server: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let open = || Ok(rustix::net::socket_with(family, kind, flags, None)?);
        let socket = match place {
            Place::Host => open()?,
            Place::Container => self.in_container(open)?,
        };
        match rustix::net::connect(&socket, &server) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error.into()),
        }
    }
}

/// The sockets that programs reach.
struct Sockets {
    datagrams: OwnedFd,
    listener: OwnedFd,
    redirect: Option<OwnedFd>,
}

impl NameServer {
    /// Opens it in the network namespace `container`; `file` says where the names come from.
    pub(super) fn open(poller: &Poller, container: OwnedFd, file: PathBuf) -> io::Result<Self> {
        let places = Places { host: netns::current()?, container };
        let sockets = places.in_container(Sockets::open)?;
        let mut datagrams = Watched::new(poller, sockets.datagrams, Token::Names(NameEvent::Datagrams));
        datagrams.watch(Some(EventFlags::IN));
        let mut listener = Watched::new(poller, sockets.listener, Token::Names(NameEvent::Listener));
        listener.watch(Some(EventFlags::IN));
        Ok(NameServer {
            poller: poller.clone(),
            places,
            datagrams,
            listener,
            files: Files::new(file),
            questions: BTreeMap::new(),
            streams: BTreeMap::new(),
            next: 0,
            _redirect: sockets.redirect,
        })
    }

    pub(super) fn on_event(&mut self, event: NameEvent, flags: EventFlags, buffer: &mut [u8]) {
        match event {
            NameEvent::Datagrams => self.on_datagrams(buffer),
            NameEvent::Answer(key, attempt) => self.on_answer(key, attempt, buffer),
            NameEvent::Listener => self.on_stream_waiting(),
            NameEvent::Stream(key) => self.on_stream(key, flags, buffer),
            NameEvent::StreamAnswer(key) => self.on_stream_answer(key, flags, buffer),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let questions = self.questions.values().map(|question| question.due);
        questions.chain(self.streams.values().map(Stream::due)).min()
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self) {
        if self.questions.is_empty() && self.streams.is_empty() {
            return;
        }
        let now = Instant::now();
        let due = |(key, due): (&u32, Instant)| (due <= now).then_some(*key);
        let questions: Vec<u32> = self.questions.iter().filter_map(|(key, q)| due((key, q.due))).collect();
        for key in questions {
            self.ask_next(key);
        }
        let streams: Vec<u32> = self.streams.iter().filter_map(|(key, s)| due((key, s.due()))).collect();
        for key in streams {
            self.on_stream_due(key);
        }
    }

    fn new_key(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}

impl Sockets {
    /// To be called in the container's namespace.
    fn open() -> io::Result<Self> {
        let open = || -> io::Result<Self> {
            let datagrams = bound(SocketType::DGRAM, 0)?;
            let listener = bound(SocketType::STREAM, 0)?;
            let ports = Ports { datagrams: port_of(&datagrams)?, streams: port_of(&listener)? };
            let redirect = redirect::install(ports)?;
            Ok(Sockets { datagrams, listener, redirect: Some(redirect) })
        };
        let sockets = match open() {
            Ok(sockets) => sockets,
            // Without nf_tables, port 53 itself: better than no names.
            Err(_) => Sockets {
                datagrams: bound(SocketType::DGRAM, skep_dns::PORT)?,
                listener: bound(SocketType::STREAM, skep_dns::PORT)?,
                redirect: None,
            },
        };
        rustix::net::listen(&sockets.listener, BACKLOG)?;
        Ok(sockets)
    }
}

fn bound(kind: SocketType, port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
    // The loopback device may be down still.
    rustix::net::sockopt::set_ip_freebind(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(skep_dns::ADDRESS, port))?;
    Ok(socket)
}

fn port_of(socket: &OwnedFd) -> io::Result<u16> {
    let address = SocketAddr::try_from(rustix::net::getsockname(socket)?)?;
    Ok(address.port())
}

/// Bytes of the kernel's generator; once the machine is up, it always has some.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let count =
        rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()))?;
    if count == N { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

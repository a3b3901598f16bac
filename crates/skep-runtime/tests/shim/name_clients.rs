//! Both ends of the container's name server: programs that ask it, and servers that it asks.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use skep_dns::names::{Entry, text};
use skep_dns::{Client, Forward, Membership, Name};
use skep_runtime::protocol::ShimConfig;

use crate::harness::{Container, DEADLINE, Setup, command};

pub(crate) const A: u16 = 1;
pub(crate) const PTR: u16 = 12;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;

pub(crate) const NO_ERROR: u8 = 0;
pub(crate) const SERVER_FAILURE: u8 = 2;

/// An answer as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) rcode: u8,
    pub(crate) truncated: bool,
    pub(crate) records: u16,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        Answer {
            rcode: bytes[3] & 15,
            truncated: bytes[2] & 2 != 0,
            records: u16::from_be_bytes([bytes[6], bytes[7]]),
            bytes: bytes.to_vec(),
        }
    }

    /// Whether the bytes of an address, or of a name, are in it.
    pub(crate) fn has(&self, part: &[u8]) -> bool {
        self.bytes.windows(part.len()).any(|window| window == part)
    }
}

pub(crate) fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = [id.to_be_bytes(), [1, 0], [0, 1], [0; 2], [0; 2], [0; 2]].concat();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes
}

/// The answer to a question: its header and question again, with `address` for a type A.
pub(crate) fn answer(question: &[u8], address: [u8; 4]) -> Vec<u8> {
    let mut bytes = question.to_vec();
    bytes[2..4].copy_from_slice(&[0x81, 0x80]);
    bytes[7] = 1;
    bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    bytes.extend_from_slice(&address);
    bytes
}

/// An answer without records.
pub(crate) fn refusal(question: &[u8], rcode: u8) -> Vec<u8> {
    let mut bytes = question.to_vec();
    bytes[2..4].copy_from_slice(&[0x81, 0x80 | rcode]);
    bytes
}

/// Opens something in a container's network.
pub(crate) fn inside<T: Send>(pid: i32, open: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let netns = File::open(format!("/proc/{pid}/ns/net")).unwrap();
            skep_sys::netns::enter(netns.as_fd()).unwrap();
            open()
        });
        thread.join().unwrap()
    })
}

/// A container with a name server and the files that this answers from.
pub(crate) struct World {
    pub(crate) container: Container,
    pub(crate) client: Client,
    directory: PathBuf,
}

impl World {
    /// Starts a container that does nothing, in networks with these names.
    pub(crate) fn new(networks: &[(&str, &[Entry])], forward: Forward) -> Self {
        Self::of(command(&["/bin/sleep", "1000"]), networks, forward)
    }

    pub(crate) fn of(setup: Setup, networks: &[(&str, &[Entry])], forward: Forward) -> Self {
        let directory = setup.directory().to_owned();
        let mut client = Client { forward, ..Client::default() };
        for (name, entries) in networks {
            let path = directory.join(name);
            fs::write(&path, text(entries)).unwrap();
            client.networks.push(Membership { name: (*name).to_owned(), names: path, links: Default::default() });
        }
        let path = directory.join("names.json");
        fs::write(&path, client.to_text().unwrap()).unwrap();
        let mut container = setup.with_config(|config: &mut ShimConfig| config.names = Some(path)).create();
        let pid = container.pid.to_string();
        let up = Command::new("nsenter").args(["-t", &pid, "-n", "ip", "link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        let reply = container.control.ask(&skep_runtime::protocol::Request::Start);
        assert_eq!(reply, skep_runtime::protocol::Reply::Started);
        World { container, client, directory }
    }

    /// Replaces the names of a network, as the engine does it.
    pub(crate) fn set_names(&self, network: &str, entries: &[Entry]) {
        replace(&self.directory.join(network), text(entries).as_bytes());
    }

    /// Replaces what the server knows about the container.
    pub(crate) fn set_client(&mut self, change: impl FnOnce(&mut Client)) {
        change(&mut self.client);
        replace(&self.directory.join("names.json"), &self.client.to_text().unwrap());
    }

    pub(crate) fn socket(&self) -> UdpSocket {
        let socket = inside(self.container.pid, || UdpSocket::bind("127.0.0.1:0").unwrap());
        socket.connect("127.0.0.11:53").unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    }

    /// Asks over UDP.
    pub(crate) fn ask(&self, name: &str, kind: u16) -> Answer {
        let socket = self.socket();
        socket.send(&question(77, name, kind)).unwrap();
        let mut buffer = [0; 65536];
        let length = socket.recv(&mut buffer).expect("an answer");
        assert_eq!(buffer[..2], [0, 77], "the id is the client's");
        Answer::read(&buffer[..length])
    }

    pub(crate) fn stream(&self) -> TcpStream {
        let stream = inside(self.container.pid, || TcpStream::connect("127.0.0.11:53").unwrap());
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Asks over TCP.
    pub(crate) fn ask_stream(&self, name: &str, kind: u16) -> Answer {
        let mut stream = self.stream();
        send_to(&mut stream, &question(78, name, kind));
        receive_from(&mut stream).expect("an answer")
    }

    /// A server in the container's network.
    pub(crate) fn server(&self, address: IpAddr, behaviour: Behaviour) -> Server {
        inside(self.container.pid, || Server::start(address, behaviour))
    }
}

fn replace(path: &Path, text: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

pub(crate) fn send_to(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], message].concat()).unwrap();
}

/// The next message of a stream; none at its end.
pub(crate) fn receive_from(stream: &mut TcpStream) -> Option<Answer> {
    read_message(stream).map(|bytes| Answer::read(&bytes))
}

fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// What a server sends back, in several messages or none; told whether the question came over TCP.
pub(crate) type Behaviour = fn(&[u8], bool) -> Vec<Vec<u8>>;

/// A server at port 53. Dropping it ends it.
pub(crate) struct Server {
    /// The questions that came, with their senders.
    pub(crate) seen: Arc<Seen>,
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(address: IpAddr, behaviour: Behaviour) -> Self {
        let datagrams = UdpSocket::bind((address, 53)).unwrap();
        let listener = TcpListener::bind((address, 53)).unwrap();
        datagrams.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (seen, end) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let threads = vec![
            {
                let (seen, end) = (Arc::clone(&seen), Arc::clone(&end));
                std::thread::spawn(move || serve_datagrams(&datagrams, behaviour, &seen, &end))
            },
            {
                let (seen, end) = (Arc::clone(&seen), Arc::clone(&end));
                std::thread::spawn(move || serve_streams(&listener, behaviour, &seen, &end))
            },
        ];
        Server { seen, end, threads }
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

pub(crate) type Seen = Mutex<Vec<(SocketAddr, Vec<u8>)>>;

fn serve_datagrams(socket: &UdpSocket, behaviour: Behaviour, seen: &Seen, end: &AtomicBool) {
    let mut buffer = [0; 65536];
    while !end.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        seen.lock().unwrap().push((from, buffer[..length].to_vec()));
        for message in behaviour(&buffer[..length], false) {
            let _ = socket.send_to(&message, from);
        }
    }
}

fn serve_streams(listener: &TcpListener, behaviour: Behaviour, seen: &Seen, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        let Ok((mut stream, from)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        let Some(question) = read_message(&mut stream) else { continue };
        seen.lock().unwrap().push((from, question.clone()));
        for message in behaviour(&question, true) {
            let length = u16::try_from(message.len()).unwrap();
            let _ = stream.write_all(&[&length.to_be_bytes()[..], &message].concat());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

pub(crate) fn entry(container: &str, aliases: &[&str], addresses: &[&str]) -> Entry {
    Entry {
        container: container.to_owned(),
        aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ports: vec!["80/tcp".parse().unwrap()],
    }
}

/// A name as it stands in an answer.
pub(crate) fn wire(name: &str) -> Vec<u8> {
    assert!(Name::from_text(name).is_some());
    question(0, name, 0)[12..].strip_suffix(&[0, 0, 0, 1]).unwrap().to_vec()
}

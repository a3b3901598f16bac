//! A relay in front of a registry that notes what is asked for and, when told to, stops in the middle of blobs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What the relay does with the answers that hold blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Lets them through.
    Pass,
    /// Lets so many bytes through, and the rest when it is told to pass.
    HoldAfter(u64),
    /// Lets so many bytes through, and ends the connection.
    CutAfter(u64),
}

/// A request for a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRequest {
    /// `/v2/NAME/blobs/DIGEST`.
    pub path: String,
    /// Its `Range` header.
    pub range: Option<String>,
}

/// A running relay; it ends with this value.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    flow: Flow,
    asked: Vec<BlobRequest>,
    over: bool,
}

impl Relay {
    /// Relays to the registry at `upstream`.
    pub fn start(upstream: &str) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = State { flow: Flow::Pass, asked: Vec::new(), over: false };
        let shared =
            Arc::new(Shared { upstream: upstream.to_owned(), state: Mutex::new(state), changed: Condvar::new() });
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if for_thread.lock().over {
                    return;
                }
                let shared = Arc::clone(&for_thread);
                // A connection that breaks is what this is for.
                std::thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Relay { address, shared }
    }

    /// The name of an image behind the relay.
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Changes what it does, also with answers under way.
    pub fn flow(&self, flow: Flow) {
        self.shared.lock().flow = flow;
        self.shared.changed.notify_all();
    }

    /// The blobs that were asked for, and forgets them.
    pub fn take_asked(&self) -> Vec<BlobRequest> {
        std::mem::take(&mut self.shared.lock().asked)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request of one connection.
    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let Some(head) = read_head(&mut client)? else { return Ok(()) };
        let text = String::from_utf8_lossy(&head).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        let is_blob = path.contains("/blobs/");
        if is_blob {
            let header = |line: &str| line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
            let range = text.lines().filter_map(header).find(|(name, _)| name == "range").map(|(_, value)| value);
            self.lock().asked.push(BlobRequest { path, range });
        }
        let mut server = TcpStream::connect(&self.upstream)?;
        let closing = text.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        server.write_all(closing.as_bytes())?;
        let mut sent = 0;
        let mut buffer = [0; 16384];
        loop {
            let count = server.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            client.write_all(&buffer[..count])?;
            sent += count as u64;
            if is_blob && !self.may_go_on(sent) {
                return Ok(());
            }
        }
    }

    /// Waits while answers of this length are held; false when the connection is to end.
    fn may_go_on(&self, sent: u64) -> bool {
        let mut state = self.lock();
        loop {
            match state.flow {
                _ if state.over => return false,
                Flow::HoldAfter(most) if sent >= most => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Flow::CutAfter(most) => return sent < most,
                Flow::Pass | Flow::HoldAfter(_) => return true,
            }
        }
    }
}

/// The head of a request; nothing if it is not HTTP but the beginning of TLS, or the end.
fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 || (head.is_empty() && byte[0] == 0x16) {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    Ok(Some(head))
}

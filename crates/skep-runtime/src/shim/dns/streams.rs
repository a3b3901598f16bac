//! Questions over TCP (RFC 1035, 4.2.2), one after the other on each stream, and their way to the servers over TCP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType};

use super::datagrams::{is_refusal, with_own_id};
use super::upstreams::Upstreams;
use super::verdict::{Carrier, Verdict, decide, failure};
use super::{LAST_PATIENCE, NameServer, PATIENCE};
use crate::shim::poll::{EventFlags, NameEvent, Token, Watched};

/// Streams that may be open. Each holds a question and an answer at most.
const MOST_STREAMS: usize = 32;
/// How long a stream may take for its next question, or to take an answer.
const IDLE: Duration = Duration::from_secs(10);
/// The longest question that is read.
const LONGEST_QUESTION: usize = 4096;
/// Streams that are accepted at a time, before others have their turn.
const AT_A_TIME: usize = 16;
/// The length before each message.
const PREFIX: usize = 2;

/// A program's connection.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Watched,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    asking: Option<Asking>,
    /// When its next question or its taking of an answer is due.
    due: Instant,
    /// Nothing more will come.
    ended: bool,
}

/// The question that a stream waits for.
#[derive(Debug)]
struct Asking {
    id: [u8; 2],
    /// With an id of ours.
    message: Vec<u8>,
    upstreams: Upstreams,
    /// Which server is being asked.
    at: usize,
    server: Option<Exchange>,
    due: Instant,
    refusal: Option<Vec<u8>>,
}

/// A connection to a server.
#[derive(Debug)]
struct Exchange {
    socket: Watched,
    unsent: Vec<u8>,
    inbox: Vec<u8>,
}

impl Stream {
    /// When something has to be done if nothing happens.
    pub(super) fn due(&self) -> Instant {
        self.asking.as_ref().map_or(self.due, |asking| asking.due)
    }

    fn settle(&mut self) {
        let mut interest = EventFlags::empty();
        // One question at a time: the next ones wait in the kernel's buffer.
        interest.set(EventFlags::IN, self.asking.is_none() && self.outbox.is_empty() && !self.ended);
        interest.set(EventFlags::OUT, !self.outbox.is_empty());
        self.socket.watch(Some(interest));
    }

    /// The next question, if all of it is there. An error if it is too long.
    fn next_question(&mut self) -> Result<Option<Vec<u8>>, ()> {
        let Some(length) = prefixed_length(&self.inbox) else { return Ok(None) };
        if length > LONGEST_QUESTION {
            return Err(());
        }
        if self.inbox.len() < PREFIX + length {
            return Ok(None);
        }
        let rest = self.inbox.split_off(PREFIX + length);
        let mut question = std::mem::replace(&mut self.inbox, rest);
        question.drain(..PREFIX);
        Ok(Some(question))
    }
}

fn prefixed_length(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk::<PREFIX>().map(|length| usize::from(u16::from_be_bytes(*length)))
}

fn prefixed(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    Some([&length.to_be_bytes()[..], message].concat())
}

impl NameServer {
    pub(super) fn on_stream_waiting(&mut self) {
        for _ in 0..AT_A_TIME {
            match rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                // Closed at once if there are too many.
                Ok(_) if self.streams.len() >= MOST_STREAMS => {}
                Ok(socket) => {
                    let key = self.new_key();
                    let socket = Watched::new(&self.poller, socket, Token::Names(NameEvent::Stream(key)));
                    let due = Instant::now() + IDLE;
                    let mut stream =
                        Stream { socket, inbox: Vec::new(), outbox: Vec::new(), asking: None, due, ended: false };
                    stream.settle();
                    self.streams.insert(key, stream);
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    pub(super) fn on_stream(&mut self, key: u32, flags: EventFlags, buffer: &mut [u8]) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            self.streams.remove(&key);
            return;
        }
        if flags.contains(EventFlags::IN) && stream.asking.is_none() {
            match rustix::net::recv(&stream.socket, &mut buffer[..PREFIX + LONGEST_QUESTION], RecvFlags::DONTWAIT) {
                Ok((0, _)) => stream.ended = true,
                Ok((length, _)) => stream.inbox.extend_from_slice(&buffer[..length]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => {
                    self.streams.remove(&key);
                    return;
                }
            }
        }
        self.go_on(key);
    }

    /// Sends what there is to send, and takes the questions that are there, until there is something to wait for.
    fn go_on(&mut self, key: u32) {
        loop {
            let Some(stream) = self.streams.get_mut(&key) else { return };
            let question = match flush(&stream.socket, &mut stream.outbox) {
                Err(_) => Err(()),
                Ok(()) if stream.asking.is_some() || !stream.outbox.is_empty() => Ok(None),
                Ok(()) => match stream.next_question() {
                    Ok(None) if stream.ended => Err(()),
                    next => next,
                },
            };
            match question {
                Err(()) => {
                    self.streams.remove(&key);
                    return;
                }
                Ok(None) => {
                    stream.settle();
                    return;
                }
                Ok(Some(question)) => {
                    stream.due = Instant::now() + IDLE;
                    self.on_stream_question(key, &question);
                }
            }
        }
    }

    fn on_stream_question(&mut self, key: u32, message: &[u8]) {
        let verdict = decide(&mut self.files, message, Carrier::Stream);
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let answer = match verdict {
            Verdict::Ignore => return,
            Verdict::Answer(answer) => Some(answer),
            Verdict::Forward(upstreams) => match with_own_id(message) {
                Some((message, id)) => {
                    let due = Instant::now();
                    stream.asking = Some(Asking { id, message, upstreams, at: 0, server: None, due, refusal: None });
                    self.connect_stream(key);
                    return;
                }
                None => failure(message, Carrier::Stream),
            },
        };
        stream.outbox.extend(answer.and_then(|answer| prefixed(&answer)).unwrap_or_default());
    }

    /// Connects to the server whose turn it is, or to one after it; with none left, the question is given up.
    fn connect_stream(&mut self, key: u32) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let Some(asking) = &mut stream.asking else { return };
        while let Some(&server) = asking.upstreams.servers.get(asking.at) {
            let Ok(socket) = self.places.connect(asking.upstreams.place, server, SocketType::STREAM) else {
                asking.at += 1;
                continue;
            };
            let mut socket = Watched::new(&self.poller, socket, Token::Names(NameEvent::StreamAnswer(key)));
            socket.watch(Some(EventFlags::IN | EventFlags::OUT));
            let unsent = prefixed(&asking.message).unwrap_or_default();
            asking.server = Some(Exchange { socket, unsent, inbox: Vec::new() });
            let is_last = asking.at + 1 == asking.upstreams.servers.len();
            asking.due = Instant::now() + if is_last { LAST_PATIENCE } else { PATIENCE };
            return;
        }
        let Some(mut asking) = stream.asking.take() else { return };
        asking.message[..2].copy_from_slice(&asking.id);
        let answer = match asking.refusal {
            Some(mut refusal) => {
                refusal[..2].copy_from_slice(&asking.id);
                Some(refusal)
            }
            None => failure(&asking.message, Carrier::Stream),
        };
        stream.outbox.extend(answer.and_then(|answer| prefixed(&answer)).unwrap_or_default());
    }

    /// The server that is being asked is of no use.
    fn try_next_server(&mut self, key: u32) {
        if let Some(asking) = self.streams.get_mut(&key).and_then(|stream| stream.asking.as_mut()) {
            asking.server = None;
            asking.at += 1;
        }
        self.connect_stream(key);
        self.go_on(key);
    }

    pub(super) fn on_stream_answer(&mut self, key: u32, flags: EventFlags, buffer: &mut [u8]) {
        let Some(asking) = self.streams.get_mut(&key).and_then(|stream| stream.asking.as_mut()) else { return };
        let Some(server) = &mut asking.server else { return };
        match server.on_ready(flags, buffer) {
            Progress::Waiting => {}
            Progress::Broken => self.try_next_server(key),
            Progress::Answer(mut answer) => {
                if !skep_dns::is_reply_to(&answer, &asking.message) {
                    self.try_next_server(key);
                } else if is_refusal(&answer) {
                    asking.refusal = Some(answer);
                    self.try_next_server(key);
                } else {
                    let late: Option<SocketAddr> =
                        (asking.at > 0).then(|| asking.upstreams.servers.get(asking.at).copied()).flatten();
                    answer[..2].copy_from_slice(&asking.id);
                    if let Some(server) = late {
                        self.files.answered_late(server);
                    }
                    if let Some(stream) = self.streams.get_mut(&key) {
                        stream.asking = None;
                        stream.due = Instant::now() + IDLE;
                        stream.outbox.extend(prefixed(&answer).unwrap_or_default());
                    }
                    self.go_on(key);
                }
            }
        }
    }

    pub(super) fn on_stream_due(&mut self, key: u32) {
        match self.streams.get(&key) {
            Some(stream) if stream.asking.is_some() => self.try_next_server(key),
            _ => drop(self.streams.remove(&key)),
        }
    }
}

enum Progress {
    Waiting,
    Broken,
    /// A message without its length.
    Answer(Vec<u8>),
}

impl Exchange {
    fn on_ready(&mut self, flags: EventFlags, buffer: &mut [u8]) -> Progress {
        if !self.unsent.is_empty() && flags.contains(EventFlags::OUT) {
            if flush(&self.socket, &mut self.unsent).is_err() {
                return Progress::Broken;
            }
            if self.unsent.is_empty() {
                self.socket.watch(Some(EventFlags::IN));
            }
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return Progress::Waiting;
        }
        match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Progress::Broken,
            Ok((length, _)) => self.inbox.extend_from_slice(&buffer[..length]),
            Err(Errno::INTR | Errno::AGAIN) => return Progress::Waiting,
            Err(_) => return Progress::Broken,
        }
        match prefixed_length(&self.inbox) {
            Some(length) if self.inbox.len() >= PREFIX + length => {
                let mut answer = std::mem::take(&mut self.inbox);
                answer.truncate(PREFIX + length);
                answer.drain(..PREFIX);
                Progress::Answer(answer)
            }
            _ => Progress::Waiting,
        }
    }
}

/// Sends as much as the other end takes.
fn flush(socket: &Watched, bytes: &mut Vec<u8>) -> rustix::io::Result<()> {
    let mut sent = 0;
    let done = loop {
        if sent == bytes.len() {
            break Ok(());
        }
        match rustix::net::send(socket, &bytes[sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => sent += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    bytes.drain(..sent);
    if bytes.is_empty() {
        *bytes = Vec::new();
    }
    done
}

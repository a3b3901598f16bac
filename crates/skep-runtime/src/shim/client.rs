//! One data socket: an attached client.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::Stream;
use super::poll::{EventFlags, Poller, ProcessKey, Token, Watched};
use crate::protocol::Attach;

/// An attached client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) number: u32,
    socket: Watched,
    streams: Attach,
    /// Whether output is framed.
    framed: bool,
    /// Output that the client has not taken; `sent` bytes of it are gone.
    queue: Vec<u8>,
    sent: usize,
    /// Since when it has taken nothing although there is something.
    stuck_since: Option<Instant>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In use.
    Open,
    /// Gone as far as output is concerned, but what it had sent before is still to be read.
    HungUp,
    /// Closed when it has taken all output.
    Closing,
    /// To be dropped.
    Dead,
}

/// What came of reading from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// So many bytes of input.
    Bytes(usize),
    /// The end of its input.
    End,
    /// Nothing now.
    Nothing,
}

impl Client {
    pub(super) fn new(
        poller: &Poller,
        socket: OwnedFd,
        (process, number): (ProcessKey, u32),
        streams: Attach,
        framed: bool,
    ) -> Self {
        Client {
            number,
            socket: Watched::new(poller, socket, Token::Client(process, number)),
            streams,
            framed,
            queue: Vec::new(),
            sent: 0,
            stuck_since: None,
            state: State::Open,
        }
    }

    /// Whether it takes part in that output.
    pub(super) fn wants(&self, stream: Stream) -> bool {
        self.state == State::Open
            && match stream {
                Stream::Stdout => self.streams.stdout,
                Stream::Stderr => self.streams.stderr,
            }
    }

    /// Whether input is expected from it.
    pub(super) fn sends_input(&self) -> bool {
        self.streams.stdin && self.state != State::Dead
    }

    /// Whether output waits for it.
    pub(super) fn is_behind(&self) -> bool {
        self.sent < self.queue.len()
    }

    /// Since when it has taken nothing although there is something.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        self.stuck_since
    }

    /// Whether it is to be dropped.
    pub(super) fn is_dead(&self) -> bool {
        self.state == State::Dead
    }

    /// Sends output, and keeps what does not go out at once.
    pub(super) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        if self.framed {
            let kind = match stream {
                Stream::Stdout => 1,
                Stream::Stderr => 2,
            };
            let [a, b, c, d] = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
            self.queue.extend_from_slice(&[kind, 0, 0, 0, a, b, c, d]);
        }
        self.queue.extend_from_slice(bytes);
        self.flush();
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) {
        while self.is_behind() {
            match rustix::net::send(&self.socket, &self.queue[self.sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => {
                    self.sent += count;
                    self.stuck_since = None;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.stuck_since.get_or_insert_with(Instant::now);
                    break;
                }
                Err(_) => {
                    self.hang_up();
                    break;
                }
            }
        }
        if !self.is_behind() {
            (self.queue, self.sent, self.stuck_since) = (Vec::new(), 0, None);
            if self.state == State::Closing {
                self.state = State::Dead;
            }
        }
    }

    /// Reads input.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Read {
        loop {
            match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Read::End,
                Ok((count, _)) => return Read::Bytes(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Read::Nothing,
                Err(_) => return Read::End,
            }
        }
    }

    /// No more input comes from it.
    pub(super) fn input_ended(&mut self) {
        self.streams.stdin = false;
        if self.state == State::HungUp {
            self.state = State::Dead;
        }
    }

    /// The other end is closed.
    pub(super) fn hang_up(&mut self) {
        (self.queue, self.sent, self.stuck_since) = (Vec::new(), 0, None);
        self.state = if self.streams.stdin { State::HungUp } else { State::Dead };
    }

    /// Closes it once it has what is queued.
    pub(super) fn close(&mut self) {
        self.streams.stdin = false;
        self.state = match self.state {
            State::Open | State::Closing if self.is_behind() => State::Closing,
            _ => State::Dead,
        };
    }

    /// Watches for what is needed now. `room`: whether its input would be taken.
    pub(super) fn settle(&mut self, room: bool) {
        let reads = self.streams.stdin && room;
        let mut interest = EventFlags::empty();
        interest.set(EventFlags::IN, reads);
        interest.set(EventFlags::OUT, self.is_behind());
        // A hang-up is reported without being asked for, again and again: not while it can't be acted upon.
        let deaf = self.state == State::HungUp && !reads;
        self.socket.watch((!deaf).then_some(interest));
    }
}

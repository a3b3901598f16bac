//! A connection that requests come from and replies go to.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};

use super::poll::{EventFlags, Poller, Token, Watched};
use crate::protocol::{Reply, Request, frame};

/// Replies that a connection may leave unread, in bytes. Events are some hundred bytes.
const MAX_UNREAD: usize = 256 << 10;
/// Descriptors that may wait for their request.
const MAX_FDS: usize = 8;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Watched,
    inbox: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    outbox: Vec<u8>,
    /// Whether it wants to hear of every exit.
    pub(super) subscribed: bool,
    /// Whether the other end is gone, or does not speak the protocol.
    dead: bool,
}

impl Connection {
    pub(super) fn new(poller: &Poller, socket: OwnedFd, number: u32) -> Self {
        let mut connection = Connection {
            socket: Watched::new(poller, socket, Token::Connection(number)),
            inbox: Vec::new(),
            fds: VecDeque::new(),
            outbox: Vec::new(),
            subscribed: false,
            dead: false,
        };
        connection.settle();
        connection
    }

    /// Reads what has come. Requests are then there to be taken with [`next`](Self::next).
    pub(super) fn on_ready(&mut self, flags: EventFlags, buffer: &mut [u8]) {
        if flags.contains(EventFlags::OUT) {
            self.flush();
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.receive(buffer);
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let received = rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(buffer)], &mut control, flags);
            match received {
                Ok(message) if message.bytes == 0 => self.dead = true,
                Ok(message) => {
                    self.inbox.extend_from_slice(&buffer[..message.bytes]);
                    for message in control.drain() {
                        if let RecvAncillaryMessage::ScmRights(fds) = message {
                            self.fds.extend(fds);
                        }
                    }
                    self.dead |= self.fds.len() > MAX_FDS || self.inbox.len() > 2 * frame::MAX_LENGTH;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.dead = true,
            }
            if self.dead {
                return;
            }
        }
    }

    /// The next request that is complete. One that can't be understood ends the connection.
    pub(super) fn next(&mut self) -> Option<Request> {
        match frame::decode(&self.inbox) {
            Ok(Some((request, length))) => {
                self.inbox.drain(..length);
                if self.inbox.is_empty() {
                    self.inbox = Vec::new();
                }
                Some(request)
            }
            Ok(None) => None,
            Err(_) => {
                self.dead = true;
                None
            }
        }
    }

    /// The descriptor that came along with the last request.
    pub(super) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    pub(super) fn send(&mut self, reply: &Reply) {
        match frame::encode(reply) {
            Ok(bytes) => self.outbox.extend_from_slice(&bytes),
            Err(_) => self.dead = true,
        }
        self.flush();
        self.dead |= self.outbox.len() > MAX_UNREAD;
    }

    fn flush(&mut self) {
        let mut sent = 0;
        while sent < self.outbox.len() {
            match rustix::net::send(&self.socket, &self.outbox[sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.dead = true;
                    break;
                }
            }
        }
        self.outbox.drain(..sent);
        if self.outbox.is_empty() {
            self.outbox = Vec::new();
        }
        self.settle();
    }

    fn settle(&mut self) {
        let mut interest = EventFlags::IN;
        interest.set(EventFlags::OUT, !self.outbox.is_empty());
        self.socket.watch(Some(interest));
    }

    /// Whether it is to be dropped.
    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Whether replies wait to be read.
    pub(super) fn has_unsent(&self) -> bool {
        !self.dead && !self.outbox.is_empty()
    }
}

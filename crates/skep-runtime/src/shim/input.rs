//! The way into a process's standard input.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::poll::{EventFlags, Poller, ProcessKey, Token, Watched};

/// The writing end of a standard input, with what the process has not taken yet.
#[derive(Debug)]
pub(super) struct Input {
    fd: Watched,
    queue: Vec<u8>,
    end: End,
}

/// Whether more will come.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Open,
    /// Closed when the queue is empty.
    Closing,
    /// The process does not read any more, or has read everything.
    Closed,
}

impl Input {
    /// `fd` does not block.
    pub(super) fn new(poller: &Poller, fd: OwnedFd, process: ProcessKey) -> Self {
        Input { fd: Watched::new(poller, fd, Token::Input(process)), queue: Vec::new(), end: End::Open }
    }

    /// Whether a client may be read: everything before has been taken.
    pub(super) fn has_room(&self) -> bool {
        self.queue.is_empty()
    }

    /// Passes bytes on. Ones that come after the end are dropped, as by a process that does not read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.end == End::Open {
            self.queue.extend_from_slice(bytes);
            self.flush();
        }
    }

    /// No more will come.
    pub(super) fn close(&mut self) {
        if self.end == End::Open {
            self.end = End::Closing;
        }
    }

    /// Writes what the process takes without waiting.
    pub(super) fn flush(&mut self) {
        let mut written = 0;
        while written < self.queue.len() {
            match rustix::io::write(&self.fd, &self.queue[written..]) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.end = End::Closed;
                    written = self.queue.len();
                }
            }
        }
        self.queue.drain(..written);
        if self.queue.is_empty() {
            self.queue = Vec::new();
        }
    }

    /// Watches for what is needed now. `false` when there is nothing left to do: the caller drops it, which closes it.
    pub(super) fn settle(&mut self) -> bool {
        self.fd.watch((!self.queue.is_empty()).then_some(EventFlags::OUT));
        match self.end {
            End::Open => true,
            End::Closing => !self.queue.is_empty(),
            End::Closed => false,
        }
    }
}

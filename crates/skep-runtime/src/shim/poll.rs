//! epoll with named sources, and descriptors that know what they are watched for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use super::Stream;

pub(super) use rustix::event::epoll::EventFlags;

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// The signalfd.
    Signals,
    /// The listening socket.
    Listener,
    /// A connection, by its number.
    Connection(u32),
    /// The output of a process.
    Output(ProcessKey, Stream),
    /// The standard input of a process.
    Input(ProcessKey),
    /// A data socket of a process, by its number.
    Client(ProcessKey, u32),
    /// A socket of the name server.
    Names(NameEvent),
}

/// The sockets of the name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameEvent {
    /// Questions over UDP.
    Datagrams,
    /// The answer to a question over UDP, by its number and that of the server.
    Answer(u32, u16),
    /// Programs that want to ask over TCP.
    Listener,
    /// Questions over TCP, by the number of the stream.
    Stream(u32),
    /// The answer to a question of a stream.
    StreamAnswer(u32),
}

/// Numbers the processes of a shim; the container's init is 0.
pub(super) type ProcessKey = u16;

impl Token {
    fn to_u64(self) -> u64 {
        let (tag, process, number) = match self {
            Token::Signals => (0, 0, 0),
            Token::Listener => (1, 0, 0),
            Token::Connection(number) => (2, 0, number),
            Token::Output(process, Stream::Stdout) => (3, process, 0),
            Token::Output(process, Stream::Stderr) => (4, process, 0),
            Token::Input(process) => (5, process, 0),
            Token::Client(process, number) => (6, process, number),
            Token::Names(NameEvent::Datagrams) => (7, 0, 0),
            Token::Names(NameEvent::Answer(number, server)) => (8, server, number),
            Token::Names(NameEvent::Listener) => (9, 0, 0),
            Token::Names(NameEvent::Stream(number)) => (10, 0, number),
            Token::Names(NameEvent::StreamAnswer(number)) => (11, 0, number),
        };
        tag << 48 | u64::from(process) << 32 | u64::from(number)
    }

    #[expect(clippy::cast_possible_truncation, reason = "takes the fields apart that to_u64 put together")]
    fn from_u64(value: u64) -> Token {
        let (tag, process, number) = (value >> 48, (value >> 32) as u16, value as u32);
        match tag {
            0 => Token::Signals,
            1 => Token::Listener,
            2 => Token::Connection(number),
            3 => Token::Output(process, Stream::Stdout),
            4 => Token::Output(process, Stream::Stderr),
            5 => Token::Input(process),
            6 => Token::Client(process, number),
            7 => Token::Names(NameEvent::Datagrams),
            8 => Token::Names(NameEvent::Answer(number, process)),
            9 => Token::Names(NameEvent::Listener),
            10 => Token::Names(NameEvent::Stream(number)),
            _ => Token::Names(NameEvent::StreamAnswer(number)),
        }
    }
}

/// An epoll instance.
#[derive(Debug, Clone)]
pub(super) struct Poller(Rc<OwnedFd>);

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Poller(Rc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?)))
    }

    /// Waits for events, at most `timeout`, and puts them into `events`.
    pub(super) fn wait(&self, timeout: Option<Duration>, events: &mut Vec<(Token, EventFlags)>) -> io::Result<()> {
        let mut ready = [const { epoll::Event { flags: EventFlags::empty(), data: epoll::EventData::new_u64(0) } }; 16];
        // Rounded up, or the last millisecond before a deadline would be spent in a loop.
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(t.subsec_nanos()),
        });
        events.clear();
        match epoll::wait(&*self.0, &mut ready, timeout.as_ref()) {
            Ok(count) => events.extend(ready.iter().take(count).map(|e| (Token::from_u64(e.data.u64()), e.flags))),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }
}

/// A descriptor that epoll may watch. Dropping it ends that and closes it.
#[derive(Debug)]
pub(super) struct Watched {
    fd: OwnedFd,
    token: Token,
    poller: Poller,
    interest: Option<EventFlags>,
}

impl Watched {
    /// Not watched yet.
    pub(super) fn new(poller: &Poller, fd: OwnedFd, token: Token) -> Self {
        Watched { fd, token, poller: poller.clone(), interest: None }
    }

    /// Watches for `interest`; with an empty set for hang-ups only, with `None` not at all.
    pub(super) fn watch(&mut self, interest: Option<EventFlags>) {
        if self.interest == interest {
            return;
        }
        let data = epoll::EventData::new_u64(self.token.to_u64());
        let done = match (self.interest, interest) {
            (None, Some(flags)) => epoll::add(&*self.poller.0, &self.fd, data, flags),
            (Some(_), Some(flags)) => epoll::modify(&*self.poller.0, &self.fd, data, flags),
            (_, None) => epoll::delete(&*self.poller.0, &self.fd),
        };
        // Files that epoll does not know (EPERM) are always ready; nothing here is one. Out of memory is left: try again later.
        if done.is_ok() {
            self.interest = interest;
        }
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Closing is not enough if there is a duplicate, as of a terminal.
        self.watch(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::Signals,
            Token::Listener,
            Token::Connection(u32::MAX),
            Token::Output(7, Stream::Stdout),
            Token::Output(u16::MAX, Stream::Stderr),
            Token::Input(3),
            Token::Client(u16::MAX, 9),
            Token::Names(NameEvent::Datagrams),
            Token::Names(NameEvent::Answer(u32::MAX, 2)),
            Token::Names(NameEvent::Listener),
            Token::Names(NameEvent::Stream(5)),
            Token::Names(NameEvent::StreamAnswer(u32::MAX)),
        ] {
            assert_eq!(Token::from_u64(token.to_u64()), token);
        }
    }
}

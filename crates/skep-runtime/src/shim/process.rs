//! A process that the shim looks after, init or exec'd, with its streams and clients.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::Stream;
use super::client::{Client, Read};
use super::input::Input;
use super::log::Log;
use super::poll::{EventFlags, Poller, ProcessKey, Token, Watched};
use crate::protocol::{Attach, Exit, Target};

/// How much output is read at once.
pub(super) const READ_SIZE: usize = 64 << 10;

/// A process with its streams.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) key: ProcessKey,
    pub(super) target: Target,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) start_time: u64,
    pub(super) stdout: Option<Watched>,
    pub(super) stderr: Option<Watched>,
    pub(super) input: Option<Input>,
    /// The master of its terminal, to set its size.
    pub(super) terminal: Option<OwnedFd>,
    /// What the end of a client's input means.
    pub(super) on_input_end: InputEnd,
    pub(super) log: Option<Log>,
    pub(super) clients: Vec<Client>,
    pub(super) next_client: u32,
    pub(super) exit: Option<Exit>,
    /// Whether somebody has been told of the exit.
    pub(super) told: bool,
    /// When to stop waiting for the end of its output.
    pub(super) output_deadline: Option<Instant>,
    /// How long a client may take nothing; `None`: for ever.
    pub(super) patience: Option<Duration>,
}

/// What the end of a client's input means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputEnd {
    /// The end of the process's input.
    ClosesInput,
    /// The end of that client's attachment.
    Detaches,
}

impl Process {
    /// Joins a client.
    pub(super) fn attach(&mut self, poller: &Poller, socket: OwnedFd, mut streams: Attach) {
        // Where there is no input, a client's is not read, and its end means nothing.
        streams.stdin &= self.input.is_some();
        let number = self.next_client;
        self.next_client = self.next_client.wrapping_add(1);
        self.clients.push(Client::new(poller, socket, (self.key, number), streams, self.terminal.is_none()));
        self.settle();
    }

    /// Reads output once and passes it on. Returns a sentence if the log has trouble.
    pub(super) fn on_output(&mut self, stream: Stream, buffer: &mut [u8]) -> Option<String> {
        let trouble = self.read_output(stream, buffer).1;
        self.settle();
        trouble
    }

    /// Reads all output that is there, without regard to how fast clients are. Output that others go on writing ends this too.
    pub(super) fn drain_output(&mut self, buffer: &mut [u8]) -> Option<String> {
        /// More than a pipe or terminal holds at its default size, so what was written before is surely read.
        const MOST: usize = 4 << 20;
        let mut trouble = None;
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut total = 0;
            while total < MOST {
                let (count, said) = self.read_output(stream, buffer);
                trouble = trouble.or(said);
                if count == 0 {
                    break;
                }
                total += count;
            }
        }
        self.settle();
        trouble
    }

    fn read_output(&mut self, stream: Stream, buffer: &mut [u8]) -> (usize, Option<String>) {
        let Some(fd) = self.output(stream).as_ref() else { return (0, None) };
        let count = loop {
            match rustix::io::read(fd, &mut *buffer) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return (0, None),
                // A terminal gives EIO when nobody has it open any more.
                Ok(0) | Err(_) => return (0, self.end_output(stream)),
                Ok(count) => break count,
            }
        };
        let bytes = &buffer[..count];
        let trouble = self.log.as_mut().and_then(|log| log.write(stream, bytes));
        for client in self.clients.iter_mut().filter(|c| c.wants(stream)) {
            client.push(stream, bytes);
        }
        (count, trouble)
    }

    /// Stops reading a stream; logs what is left of its last line.
    fn end_output(&mut self, stream: Stream) -> Option<String> {
        *self.output(stream) = None;
        self.log.as_mut().and_then(|log| log.finish(stream))
    }

    fn output(&mut self, stream: Stream) -> &mut Option<Watched> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Whether all output has been read.
    pub(super) fn output_ended(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Stops reading output that has not ended.
    pub(super) fn give_up_output(&mut self) -> Option<String> {
        let first = self.end_output(Stream::Stdout);
        let trouble = first.or(self.end_output(Stream::Stderr));
        self.settle();
        trouble
    }

    /// The process takes more input.
    pub(super) fn on_input(&mut self) {
        if let Some(input) = &mut self.input {
            input.flush();
        }
        self.settle();
    }

    /// A data socket is ready.
    pub(super) fn on_client(&mut self, number: u32, flags: EventFlags, buffer: &mut [u8]) {
        let Some(client) = self.clients.iter_mut().find(|c| c.number == number) else { return };
        if flags.contains(EventFlags::OUT) {
            client.flush();
        }
        let hung_up = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if client.sends_input() && flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            Self::read_input(client, &mut self.input, self.on_input_end, buffer);
        }
        if hung_up && !client.is_dead() {
            client.hang_up();
        }
        self.settle();
    }

    /// Moves input from a client to the process as long as both go on.
    fn read_input(client: &mut Client, input: &mut Option<Input>, end: InputEnd, buffer: &mut [u8]) {
        while input.as_ref().is_none_or(Input::has_room) {
            match client.read(buffer) {
                Read::Bytes(count) => {
                    if let Some(input) = input {
                        input.push(&buffer[..count]);
                    }
                }
                Read::Nothing => return,
                Read::End => {
                    client.input_ended();
                    end_input(client, input, end);
                    return;
                }
            }
        }
    }

    /// Drops clients that have taken nothing for too long. Returns how many.
    pub(super) fn drop_stuck_clients(&mut self, now: Instant) -> usize {
        let Some(patience) = self.patience else { return 0 };
        let mut dropped = 0;
        for client in &mut self.clients {
            if client.stuck_since().is_some_and(|since| now.duration_since(since) >= patience) {
                let sent_input = client.sends_input();
                client.hang_up();
                if sent_input {
                    client.input_ended();
                    end_input(client, &mut self.input, self.on_input_end);
                }
                dropped += 1;
            }
        }
        if dropped > 0 {
            self.settle();
        }
        dropped
    }

    /// When [`drop_stuck_clients`](Self::drop_stuck_clients) or the end of waiting for output is due next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let stuck = self.clients.iter().filter_map(Client::stuck_since).min();
        let stuck = stuck.zip(self.patience).map(|(since, patience)| since + patience);
        [stuck, self.output_deadline].into_iter().flatten().min()
    }

    /// Closes the clients once they have all output. The process has ended, and so has its output.
    pub(super) fn close_clients(&mut self) {
        self.input = None;
        for client in &mut self.clients {
            client.close();
        }
        self.settle();
    }

    /// Brings what epoll watches in line with the state. After everything that changes it.
    pub(super) fn settle(&mut self) {
        self.clients.retain(|c| !c.is_dead());
        if self.input.as_mut().is_some_and(|input| !input.settle()) {
            self.input = None;
        }
        let room = self.input.as_ref().is_none_or(Input::has_room);
        for client in &mut self.clients {
            client.settle(room);
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            // Reading stops while a client is behind: back-pressure, as through a pipe.
            let blocked = self.clients.iter().any(|c| c.wants(stream) && c.is_behind());
            if let Some(output) = self.output(stream) {
                output.watch((!blocked).then_some(EventFlags::IN));
            }
        }
    }

    /// What a new stream of this process is watched as.
    pub(super) fn output_token(key: ProcessKey, stream: Stream) -> Token {
        Token::Output(key, stream)
    }
}

fn end_input(client: &mut Client, input: &mut Option<Input>, end: InputEnd) {
    match (end, input) {
        (InputEnd::ClosesInput, Some(input)) => input.close(),
        (InputEnd::ClosesInput, None) => {}
        (InputEnd::Detaches, _) => client.close(),
    }
}

//! The loop: waits for events and hands each to whom it concerns.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::{WaitOptions, WaitStatus};

use super::connection::Connection;
use super::dns::NameServer;
use super::now;
use super::poll::{EventFlags, Poller, ProcessKey, Token, Watched};
use super::process::Process;
use crate::cgroup::Cgroup;
use crate::container::Launched;
use crate::protocol::{Exit, Failure, Lifetime, Phase, Reply, ShimConfig};

/// The key of the container's init.
pub(super) const INIT: ProcessKey = 0;

/// Everything a shim knows.
#[derive(Debug)]
pub(super) struct Shim {
    pub(super) poller: Poller,
    pub(super) signals: Watched,
    /// Gone when the container has ended.
    pub(super) listener: Option<Watched>,
    pub(super) bundle: Bundle,
    pub(super) config: ShimConfig,
    pub(super) cgroup: Option<Cgroup>,
    /// Whether the container has a pid namespace, whose processes all end with its init.
    pub(super) pids: Pids,
    pub(super) phase: Phase,
    /// The init, until it is let go.
    pub(super) at_gate: Option<Launched>,
    /// The engine has gone, and the container has to end with it.
    pub(super) abandoned: bool,
    /// Why the init's program could not be executed.
    pub(super) failure: Option<Failure>,
    pub(super) started_at: Option<i64>,
    pub(super) processes: BTreeMap<ProcessKey, Process>,
    pub(super) next_process: ProcessKey,
    pub(super) connections: BTreeMap<u32, Connection>,
    pub(super) next_connection: u32,
    /// The connection on which an exec was asked for, which hears of its end.
    pub(super) waiters: BTreeMap<ProcessKey, u32>,
    /// The container's name server, if it has one, until the container has ended.
    pub(super) names: Option<Box<NameServer>>,
    pub(super) buffer: Vec<u8>,
}

/// The bundle's directory. Its socket is reached through the descriptor, as the path may be too long for a socket's address.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) path: PathBuf,
    pub(super) directory: OwnedFd,
}

/// Whose process ids the container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pids {
    /// Its own: the kernel ends all its processes with its init.
    Own,
    /// Those of the host or of another container.
    Shared,
}

/// The number of the control connection.
pub(super) const CONTROL: u32 = 0;

/// After the end: how long to wait for connections that do not take the last messages.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Shim {
    /// Runs until the container has ended and everybody has been told.
    pub(super) fn run(mut self) -> u8 {
        let mut events = Vec::with_capacity(16);
        let mut ended: Option<Instant> = None;
        skep_sys::event::trim_memory();
        loop {
            let timeout = self.next_deadline(ended).map(|d| d.saturating_duration_since(Instant::now()));
            if self.poller.wait(timeout, &mut events).is_err() {
                return 1;
            }
            for (token, flags) in events.drain(..) {
                self.on_event(token, flags);
            }
            self.on_time();
            self.sweep();
            if matches!(self.phase, Phase::Exited(_)) {
                let since = *ended.get_or_insert_with(Instant::now);
                if self.is_done(since) {
                    return 0;
                }
            }
        }
    }

    fn on_event(&mut self, token: Token, flags: EventFlags) {
        let trouble = match token {
            Token::Signals => {
                self.on_signals();
                None
            }
            Token::Listener => {
                self.on_listener();
                None
            }
            Token::Connection(number) => {
                self.on_connection(number, flags);
                None
            }
            Token::Output(key, stream) => {
                self.processes.get_mut(&key).and_then(|p| p.on_output(stream, &mut self.buffer))
            }
            Token::Input(key) => {
                if let Some(process) = self.processes.get_mut(&key) {
                    process.on_input();
                }
                None
            }
            Token::Client(key, number) => {
                if let Some(process) = self.processes.get_mut(&key) {
                    process.on_client(number, flags, &mut self.buffer);
                }
                None
            }
            Token::Names(event) => {
                if let Some(names) = &mut self.names {
                    names.on_event(event, flags, &mut self.buffer);
                }
                None
            }
        };
        self.report_trouble(trouble);
    }

    /// Takes the signals, and reaps. Other signals than SIGCHLD have no meaning: a shim ends with its container.
    fn on_signals(&mut self) {
        while matches!(rustix::io::read(&self.signals, &mut self.buffer[..]), Ok(1..) | Err(Errno::INTR)) {}
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.on_reaped(pid.as_raw_nonzero().get(), status),
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn on_reaped(&mut self, pid: i32, status: WaitStatus) {
        // Others are orphans that came to the shim as their reaper, and execs that did not get to their program.
        let Some(process) = self.processes.values_mut().find(|p| p.pid == pid && p.exit.is_none()) else { return };
        let signal = status.terminating_signal();
        let code = signal.map_or_else(|| status.exit_status().unwrap_or(255), |s| 128 + s);
        process.exit = Some(Exit {
            code: u8::try_from(code).unwrap_or(u8::MAX),
            signal: signal.and_then(skep_types::Signal::from_number),
            oom_killed: self.cgroup.as_ref().is_some_and(|c| c.oom_kills().is_ok_and(|n| n > 0)),
            finished_at: now(),
        });
        process.output_deadline = Some(Instant::now() + Duration::from_millis(self.config.grace.output_ms));
        match process.key {
            INIT => self.on_init_exit(),
            key => self.on_exec_exit(key),
        }
    }

    fn on_listener(&mut self) {
        let Some(listener) = &self.listener else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            match rustix::net::accept_with(listener, flags) {
                Ok(socket) if is_trusted(&socket) => {
                    let number = self.next_connection;
                    self.next_connection += 1;
                    self.connections.insert(number, Connection::new(&self.poller, socket, number));
                }
                Ok(_) | Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return,
            }
        }
    }

    fn on_connection(&mut self, number: u32, flags: EventFlags) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.on_ready(flags, &mut self.buffer);
        while let Some(request) = self.connections.get_mut(&number).and_then(Connection::next) {
            let reply = self.on_request(number, request);
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.send(&reply);
            }
        }
    }

    /// Does what is due.
    fn on_time(&mut self) {
        let now = Instant::now();
        let mut dropped = 0;
        let mut troubles = Vec::new();
        for process in self.processes.values_mut() {
            dropped += process.drop_stuck_clients(now);
            if process.output_deadline.is_some_and(|d| d <= now) && !process.output_ended() {
                troubles.extend(process.give_up_output());
            }
        }
        if dropped > 0 {
            let seconds = self.config.grace.slow_client_ms / 1000;
            troubles.push(format!("{dropped} attached clients took no output for {seconds} s and were disconnected"));
        }
        for trouble in troubles {
            self.report_trouble(Some(trouble));
        }
        if let Some(names) = &mut self.names {
            names.on_time();
        }
    }

    fn next_deadline(&self, ended: Option<Instant>) -> Option<Instant> {
        let names = self.names.as_ref().and_then(|names| names.next_deadline());
        let mut next = self.processes.values().filter_map(Process::next_deadline).chain(names).min();
        if let Some(ended) = ended {
            let last = ended + LAST_WORDS;
            next = Some(next.map_or(last, |n| n.min(last)));
        }
        next
    }

    /// Lets go of what is over.
    fn sweep(&mut self) {
        self.connections.retain(|_, c| !c.is_dead());
        let tied = self.at_gate.is_some() || self.config.lifetime == Lifetime::Engine;
        if tied && !self.abandoned && !self.connections.contains_key(&CONTROL) {
            self.abandon();
        }
        self.sweep_execs();
        self.finish_if_ended();
    }

    /// Sends a message to everyone who wants to hear of events. Says whether there was someone.
    pub(super) fn broadcast(&mut self, reply: &Reply) -> bool {
        let mut heard = false;
        for connection in self.connections.values_mut().filter(|c| c.subscribed && !c.is_dead()) {
            connection.send(reply);
            heard |= !connection.is_dead();
        }
        heard
    }

    fn report_trouble(&mut self, trouble: Option<String>) {
        if let Some(text) = trouble {
            self.broadcast(&Reply::Trouble(text));
        }
    }

    fn is_done(&self, ended: Instant) -> bool {
        let all_output_taken = self.processes.values().all(|p| p.clients.is_empty());
        let all_told = !self.connections.values().any(Connection::has_unsent) || ended.elapsed() >= LAST_WORDS;
        all_output_taken && all_told
    }
}

/// Whether the other end of a connection is root or who the shim runs as.
fn is_trusted(socket: &OwnedFd) -> bool {
    rustix::net::sockopt::socket_peercred(socket)
        .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid())
}

//! Questions over UDP, and their way to the servers and back.
//!
//! A question that is passed on has a socket for each server that was asked. The servers are asked in turn, each when the one before it
//! has refused or been silent for a while; whichever answers first is heard.

use std::net::SocketAddr;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType};

use super::upstreams::Upstreams;
use super::verdict::{Carrier, Verdict, decide, failure};
use super::{LAST_PATIENCE, NameServer, PATIENCE, random};
use crate::shim::poll::{EventFlags, NameEvent, Token, Watched};

/// Questions that may be on their way. Each has up to three sockets.
const MOST_QUESTIONS: usize = 256;
/// The longest question that is passed on.
const LONGEST_QUESTION: usize = 4096;
/// Datagrams that are taken at a time, before others have their turn.
const AT_A_TIME: usize = 32;

const SERVER_FAILURE: u8 = 2;
const NOT_IMPLEMENTED: u8 = 4;
const REFUSED: u8 = 5;

/// A question on its way.
#[derive(Debug)]
pub(super) struct Question {
    client: SocketAddr,
    /// The id that the client gave it.
    id: [u8; 2],
    /// As it was sent, with an id of ours.
    message: Vec<u8>,
    upstreams: Upstreams,
    /// By server, as far as they were asked; none for those that have refused.
    attempts: Vec<Option<Watched>>,
    /// When the next server is asked, or the question is given up.
    pub(super) due: Instant,
    /// What a server said that could not answer.
    refusal: Option<Vec<u8>>,
}

/// Whether a server's answer leaves hope in the next one.
pub(super) fn is_refusal(answer: &[u8]) -> bool {
    skep_dns::rcode_of(answer).is_some_and(|code| matches!(code, SERVER_FAILURE | NOT_IMPLEMENTED | REFUSED))
}

/// The question with a random id, and the id it had.
pub(super) fn with_own_id(message: &[u8]) -> Option<(Vec<u8>, [u8; 2])> {
    let mut message = message.to_vec();
    let id = message.first_chunk_mut::<2>()?;
    let theirs = std::mem::replace(id, random().ok()?);
    Some((message, theirs))
}

impl NameServer {
    pub(super) fn on_datagrams(&mut self, buffer: &mut [u8]) {
        for _ in 0..AT_A_TIME {
            match rustix::net::recvfrom(&self.datagrams, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _, Some(client))) => {
                    if let Ok(client) = SocketAddr::try_from(client) {
                        self.on_question(&buffer[..length], client);
                    }
                }
                Ok((_, _, None)) | Err(Errno::INTR) => {}
                // The errors are those of answers to clients that are gone.
                Err(Errno::CONNREFUSED | Errno::HOSTUNREACH) => {}
                Err(_) => return,
            }
        }
    }

    fn on_question(&mut self, message: &[u8], client: SocketAddr) {
        match decide(&mut self.files, message, Carrier::Datagram) {
            Verdict::Ignore => {}
            Verdict::Answer(answer) => self.tell(client, &answer),
            Verdict::Forward(upstreams) => {
                let question = with_own_id(message)
                    .filter(|_| self.questions.len() < MOST_QUESTIONS && message.len() <= LONGEST_QUESTION);
                let Some((message, id)) = question else {
                    if let Some(answer) = failure(message, Carrier::Datagram) {
                        self.tell(client, &answer);
                    }
                    return;
                };
                let key = self.new_key();
                let due = Instant::now();
                let attempts = Vec::with_capacity(1);
                self.questions.insert(key, Question { client, id, message, upstreams, attempts, due, refusal: None });
                self.ask_next(key);
            }
        }
    }

    fn tell(&self, client: SocketAddr, answer: &[u8]) {
        // A client that takes nothing asks again.
        let _ = rustix::net::sendto(&self.datagrams, answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL, &client);
    }

    /// Asks the next server, or gives up if all had their time.
    pub(super) fn ask_next(&mut self, key: u32) {
        let Some(question) = self.questions.get_mut(&key) else { return };
        let servers = question.upstreams.servers.clone();
        while let Some(&server) = servers.get(question.attempts.len()) {
            let attempt = u16::try_from(question.attempts.len()).unwrap_or(u16::MAX);
            let socket = self.places.connect(question.upstreams.place, server, SocketType::DGRAM);
            let sent = socket.and_then(|socket| {
                rustix::net::send(&socket, &question.message, SendFlags::NOSIGNAL)?;
                Ok(socket)
            });
            let Ok(socket) = sent else {
                question.attempts.push(None);
                continue;
            };
            let mut socket = Watched::new(&self.poller, socket, Token::Names(NameEvent::Answer(key, attempt)));
            socket.watch(Some(EventFlags::IN));
            question.attempts.push(Some(socket));
            let is_last = question.attempts.len() == servers.len();
            question.due = Instant::now() + if is_last { LAST_PATIENCE } else { PATIENCE };
            return;
        }
        if question.due <= Instant::now() || question.attempts.iter().all(Option::is_none) {
            self.give_up(key);
        }
    }

    fn give_up(&mut self, key: u32) {
        let Some(mut question) = self.questions.remove(&key) else { return };
        question.message[..2].copy_from_slice(&question.id);
        let answer = match question.refusal {
            Some(mut refusal) => {
                refusal[..2].copy_from_slice(&question.id);
                Some(refusal)
            }
            None => failure(&question.message, Carrier::Datagram),
        };
        if let Some(answer) = answer {
            self.tell(question.client, &answer);
        }
    }

    pub(super) fn on_answer(&mut self, key: u32, attempt: u16, buffer: &mut [u8]) {
        let Some(question) = self.questions.get_mut(&key) else { return };
        let attempt = usize::from(attempt);
        match question.receive(attempt, buffer) {
            Heard::Nothing => {}
            Heard::Refusal => {
                question.attempts[attempt] = None;
                self.ask_next(key);
            }
            Heard::Answer(length) => {
                if attempt > 0 {
                    self.files.answered_late(question.upstreams.servers[attempt]);
                }
                let client = question.client;
                self.questions.remove(&key);
                self.tell(client, &buffer[..length]);
            }
        }
    }
}

enum Heard {
    /// Nothing yet that counts.
    Nothing,
    /// The server can't answer, or is not there.
    Refusal,
    /// The answer, as long as this, with the client's id.
    Answer(usize),
}

impl Question {
    fn receive(&mut self, attempt: usize, buffer: &mut [u8]) -> Heard {
        for _ in 0..AT_A_TIME {
            let Some(socket) = self.attempts.get(attempt).and_then(Option::as_ref) else { return Heard::Nothing };
            match rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    let answer = &mut buffer[..length];
                    if !skep_dns::is_reply_to(answer, &self.message) {
                        continue;
                    }
                    if is_refusal(answer) {
                        self.refusal = Some(answer.to_vec());
                        return Heard::Refusal;
                    }
                    answer[..2].copy_from_slice(&self.id);
                    return Heard::Answer(length);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Heard::Nothing,
                Err(_) => return Heard::Refusal,
            }
        }
        Heard::Nothing
    }
}

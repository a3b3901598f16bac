//! A synchronous netlink socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::Socket as RawSocket;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::wire::{Batch, Received, find, messages, read_u32};

const ERROR: u16 = 2;
const DONE: u16 = 3;
const FLAG_CAPPED: u16 = 0x100;
const FLAG_EXTENDED: u16 = 0x200;
const EXTENDED_MESSAGE: u16 = 1;
/// As much as the kernel puts into one part of a dump.
const RECEIVE: usize = 32 * 1024;
/// Room for the largest batch: a whole table with tens of thousands of ports. It bounds a request, nothing is allocated.
const SEND_BUFFER: usize = 64 << 20;

/// The kernel's refusal of a request.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{errno}{}{note}", if note.is_empty() { "" } else { ": " })]
pub(crate) struct Refused {
    pub(crate) errno: Errno,
    /// Place of the refused message in its batch, counted from one; zero if the batch as a whole failed.
    pub(crate) message: u32,
    /// The kernel's own words, where it has any.
    pub(crate) note: String,
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Refused { errno, message: 0, note: String::new() }
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        let plain = io::Error::from(refused.errno);
        if refused.note.is_empty() { plain } else { io::Error::new(plain.kind(), refused) }
    }
}

/// A netlink socket of the network namespace it was opened in, whichever thread uses it later.
#[derive(Debug)]
pub(crate) struct Socket {
    raw: RawSocket,
    port: u32,
}

impl Socket {
    pub(crate) fn route() -> io::Result<Self> {
        let raw = RawSocket::new(netlink_sys::protocols::NETLINK_ROUTE)?;
        raw.set_netlink_get_strict_chk(true)?;
        Self::prepare(raw)
    }

    pub(crate) fn netfilter() -> io::Result<Self> {
        let socket = Self::prepare(RawSocket::new(netlink_sys::protocols::NETLINK_NETFILTER)?)?;
        rustix::net::sockopt::set_socket_send_buffer_size_force(&socket.raw, SEND_BUFFER)?;
        Ok(socket)
    }

    fn prepare(mut raw: RawSocket) -> io::Result<Self> {
        raw.set_ext_ack(true)?;
        let port = raw.bind_auto()?.port_number();
        Ok(Socket { raw, port })
    }

    /// The number that the kernel knows the socket by.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Sends a batch and waits until it is done. The first refusal is returned.
    pub(crate) fn run(&mut self, batch: &Batch) -> Result<(), Refused> {
        self.exchange(batch, |_, _| {})
    }

    /// As [`Socket::run`], handing each answer's type and payload to `each`.
    pub(crate) fn exchange(&mut self, batch: &Batch, mut each: impl FnMut(u16, &[u8])) -> Result<(), Refused> {
        let sent = retry(|| send(&self.raw, batch.bytes(), SendFlags::empty()))?;
        debug_assert_eq!(sent, batch.bytes().len(), "datagrams are sent whole");
        let mut buffer = vec![0; RECEIVE];
        let mut refusal = None;
        loop {
            let size = match retry(|| recv(&self.raw, buffer.as_mut_slice(), RecvFlags::DONTWAIT)) {
                Ok((size, _)) => size,
                Err(Errno::AGAIN) => break,
                Err(e) => return Err(refusal.unwrap_or_else(|| e.into())),
            };
            for message in messages(&buffer[..size]) {
                match message.kind {
                    ERROR => {
                        let found = refused(message.payload, message.flags, message.sequence);
                        refusal = refusal.or(found);
                    }
                    DONE => {}
                    kind => each(kind, message.payload),
                }
            }
        }
        refusal.map_or(Ok(()), Err)
    }
}

/// A socket that hears what changes in the packet filter of its network namespace.
#[derive(Debug)]
pub(crate) struct Events {
    raw: RawSocket,
    buffer: Vec<u8>,
}

/// The group of nf_tables' announcements.
const GROUP_NFTABLES: u32 = 7;

impl Events {
    pub(crate) fn open() -> io::Result<Self> {
        let mut raw = RawSocket::new(netlink_sys::protocols::NETLINK_NETFILTER)?;
        raw.bind_auto()?;
        raw.add_membership(GROUP_NFTABLES)?;
        Ok(Events { raw, buffer: vec![0; RECEIVE] })
    }

    /// Hands everything that is queued to `each`. `false`: some were lost, since they came faster than they were read.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(&Received<'_>)) -> rustix::io::Result<bool> {
        let mut complete = true;
        loop {
            match retry(|| recv(&self.raw, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT)) {
                Ok((size, _)) => messages(&self.buffer[..size]).for_each(|message| each(&message)),
                Err(Errno::AGAIN) => return Ok(complete),
                Err(Errno::NOBUFS) => complete = false,
                Err(e) => return Err(e),
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

/// Reads an error message: errno, the refused message (or only its header), extended attributes. Zero is success.
fn refused(payload: &[u8], flags: u16, sequence: u32) -> Option<Refused> {
    let errno = i32::from_ne_bytes(*payload.first_chunk()?);
    if errno == 0 {
        return None;
    }
    let echoed = match flags & FLAG_CAPPED {
        0 => usize::try_from(read_u32(payload.get(4..)?)?).ok()?.next_multiple_of(4),
        _ => 16,
    };
    let extended = if flags & FLAG_EXTENDED == 0 { &[] } else { payload.get(4 + echoed..).unwrap_or_default() };
    let note =
        find(extended, EXTENDED_MESSAGE).map(|text| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
    Some(Refused { errno: Errno::from_raw_os_error(-errno), message: sequence, note: note.unwrap_or_default() })
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

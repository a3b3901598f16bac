//! Leads 127.0.0.11:53 to the ports where the name server really listens, so that a program in the container may have port 53.
//!
//! ```text
//! requests   output, before connection tracking    to 127.0.0.11, port 53: port := ours
//! replies    output, after everything else         from 127.0.0.11, port ours: port := 53
//! ```
//! Both directions leave through the loopback device of one namespace, so ports can be written over without remembering anything: no
//! connection is tracked, and what does not go to the loopback device passes one comparison in each chain. Where the container has rules
//! with connection tracking of its own, it sees both directions with the same port.
//!
//! The table belongs to the socket that made it (Linux 5.12): nobody in the container can change it or flush it away, and it is gone with
//! the shim. Older kernels have a table like any other.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use super::Ports;

const TABLE: &str = "skep_dns";
const REQUESTS: &str = "requests";
const REPLIES: &str = "replies";

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10 << 8;
const NEW_TABLE: u16 = SUBSYSTEM;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const FLAG_REQUEST: u16 = 1;
const FLAG_CREATE: u16 = 0x400;
const FLAG_APPEND: u16 = 0x800;
const ERROR: u16 = 2;
const NESTED: u16 = 1 << 15;
const FAMILY_IPV4: u8 = 2;
const TABLE_HAS_OWNER: u32 = 2;

const HOOK_OUTPUT: u32 = 3;
/// Before and after connection tracking (-200) and address translation.
const EARLY: i32 = -300;
const LATE: i32 = 300;
const ACCEPT: u32 = 1;

const REGISTER: u32 = 1;
const REGISTER_VERDICT: u32 = 0;
const META_OIF: u32 = 5;
const META_PROTOCOL: u32 = 16;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// The loopback device is the first of every namespace.
const LOOPBACK_INDEX: u32 = 1;
const SOURCE_ADDRESS: u32 = 12;
const DESTINATION_ADDRESS: u32 = 16;
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;
/// Protocol numbers, and where their checksums are.
const UDP: (u8, u32) = (17, 6);
const TCP: (u8, u32) = (6, 16);

/// Puts the rules in force in the calling thread's namespace. They are there as long as the socket is open.
pub(super) fn install(ports: Ports) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::NETFILTER),
    )?;
    match send(&socket, &rules(ports, TABLE_HAS_OWNER)) {
        Err(Errno::OPNOTSUPP | Errno::INVAL) => send(&socket, &rules(ports, 0))?,
        done => done?,
    }
    Ok(socket)
}

/// The kernel has worked a batch off when sending returns. Only refusals are answered.
fn send(socket: &OwnedFd, batch: &[u8]) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::net::send(socket, batch, SendFlags::empty()))?;
    let mut buffer = [0; 4096];
    let mut refusal = Ok(());
    loop {
        match rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((size, _)) => refusal = refusal.and(refused(&buffer[..size.min(4096)])),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return refusal,
            Err(error) => return refusal.and(Err(error)),
        }
    }
}

fn refused(answer: &[u8]) -> rustix::io::Result<()> {
    let kind = answer.get(4..6).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
    let code = answer.get(16..20).and_then(|bytes| bytes.first_chunk().map(|code| i32::from_ne_bytes(*code)));
    match (kind, code) {
        (Some(ERROR), Some(code)) if code != 0 => Err(Errno::from_raw_os_error(-code)),
        _ => Ok(()),
    }
}

fn rules(ports: Ports, table_flags: u32) -> Vec<u8> {
    let mut batch = Batch(Vec::with_capacity(2048));
    batch.message(BATCH_BEGIN, 0, [0, 0, 0, 10], |_| {});
    batch.message(NEW_TABLE, FLAG_CREATE, HEADER, |m| {
        m.text(1, TABLE);
        m.number(2, table_flags);
    });
    batch.chain(REQUESTS, EARLY);
    batch.chain(REPLIES, LATE);
    for chain in [REQUESTS, REPLIES] {
        batch.rule(chain, |m| {
            m.meta(META_OIF);
            m.compare(NOT_EQUAL, &LOOPBACK_INDEX.to_ne_bytes());
            m.accept();
        });
    }
    for ((protocol, checksum), port) in [(UDP, ports.datagrams), (TCP, ports.streams)] {
        batch.rule(REQUESTS, |m| {
            m.matches(DESTINATION_ADDRESS, protocol, DESTINATION_PORT, skep_dns::PORT);
            m.set_port(DESTINATION_PORT, port, checksum);
        });
        batch.rule(REPLIES, |m| {
            m.matches(SOURCE_ADDRESS, protocol, SOURCE_PORT, port);
            m.set_port(SOURCE_PORT, skep_dns::PORT, checksum);
        });
    }
    batch.message(BATCH_END, 0, [0, 0, 0, 10], |_| {});
    batch.0
}

/// Family, version, no resource.
const HEADER: [u8; 4] = [FAMILY_IPV4, 0, 0, 0];

/// Messages with nested attributes (netlink(7), linux/netfilter/nf_tables.h).
struct Batch(Vec<u8>);

impl Batch {
    fn message(&mut self, kind: u16, flags: u16, header: [u8; 4], fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(&(flags | FLAG_REQUEST).to_ne_bytes());
        self.0.extend_from_slice(&[0; 8]);
        self.0.extend_from_slice(&header);
        fill(self);
        let length = u32::try_from(self.0.len() - start).expect("some hundred bytes");
        self.0[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn chain(&mut self, name: &str, priority: i32) {
        self.message(NEW_CHAIN, FLAG_CREATE, HEADER, |m| {
            m.text(1, TABLE);
            m.text(3, name);
            m.nest(4, |m| {
                m.number(1, HOOK_OUTPUT);
                m.number(2, priority.cast_unsigned());
            });
            m.number(5, ACCEPT);
            m.text(7, "filter");
        });
    }

    fn rule(&mut self, chain: &str, fill: impl FnOnce(&mut Self)) {
        self.message(NEW_RULE, FLAG_CREATE | FLAG_APPEND, HEADER, |m| {
            m.text(1, TABLE);
            m.text(2, chain);
            m.nest(4, fill);
        });
    }

    /// Goes on with packets of a protocol that have 127.0.0.11 and this port.
    fn matches(&mut self, address_at: u32, protocol: u8, port_at: u32, port: u16) {
        self.payload(NETWORK, address_at, 4);
        self.compare(EQUAL, &skep_dns::ADDRESS.octets());
        self.meta(META_PROTOCOL);
        self.compare(EQUAL, &[protocol]);
        self.payload(TRANSPORT, port_at, 2);
        self.compare(EQUAL, &port.to_be_bytes());
    }

    fn set_port(&mut self, at: u32, port: u16, checksum_at: u32) {
        self.expression("immediate", |m| {
            m.number(1, REGISTER);
            m.nest(2, |m| m.attribute(1, &port.to_be_bytes()));
        });
        self.expression("payload", |m| {
            m.number(5, REGISTER);
            m.number(2, TRANSPORT);
            m.number(3, at);
            m.number(4, 2);
            m.number(6, 1);
            m.number(7, checksum_at);
        });
    }

    fn meta(&mut self, key: u32) {
        self.expression("meta", |m| {
            m.number(1, REGISTER);
            m.number(2, key);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32) {
        self.expression("payload", |m| {
            m.number(1, REGISTER);
            m.number(2, base);
            m.number(3, offset);
            m.number(4, length);
        });
    }

    fn compare(&mut self, operator: u32, value: &[u8]) {
        self.expression("cmp", |m| {
            m.number(1, REGISTER);
            m.number(2, operator);
            m.nest(3, |m| m.attribute(1, value));
        });
    }

    fn accept(&mut self) {
        self.expression("immediate", |m| {
            m.number(1, REGISTER_VERDICT);
            m.nest(2, |m| m.nest(2, |m| m.number(1, ACCEPT)));
        });
    }

    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.nest(1, |m| {
            m.text(1, name);
            m.nest(2, fill);
        });
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.enclosed(kind, |m| {
            m.0.extend_from_slice(value.as_bytes());
            m.0.push(0);
        });
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.enclosed(kind, |m| m.0.extend_from_slice(value));
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.enclosed(kind | NESTED, fill);
    }

    fn enclosed(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.0.len() - start).expect("some hundred bytes");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

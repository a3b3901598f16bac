//! Answers of our own.

use std::net::IpAddr;

use crate::name::Name;
use crate::query::{HEADER, Kind, Query};

/// How long a client may remember an answer, in seconds. Containers come and go, and asking costs them next to nothing.
const TTL: u32 = 5;
/// The largest datagram that we announce and send: it goes over loopback, where nothing is cut into fragments.
pub const LARGEST_DATAGRAM: u16 = 4096;
const PLAIN_DATAGRAM: usize = 512;
/// The name of the question, by a pointer to it.
const QUESTION: [u8; 2] = [0xc0, 12];
const RESPONSE: u16 = 0x8000;
const TRUNCATED: u8 = 0x02;
const RECURSION_AVAILABLE: u16 = 0x0080;
/// Of the question's flags, those that an answer repeats: recursion desired, checking disabled.
const REPEATED: u16 = 0x0110;

/// How it went (RFC 1035, 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rcode {
    /// Well, though there may be no record.
    NoError = 0,
    /// The question can't be understood.
    FormatError = 1,
    /// Nobody could be asked, or nobody answered.
    ServerFailure = 2,
    /// Something else than a question is wanted.
    NotImplemented = 4,
}

/// An answer being written.
#[derive(Debug)]
pub struct Answer {
    bytes: Vec<u8>,
    limit: usize,
    options: bool,
    answers: u16,
    additional: u16,
    full: bool,
}

impl Answer {
    /// An answer for a datagram, which may be too small for all of it.
    pub fn datagram(query: &Query, rcode: Rcode) -> Self {
        let limit = query.edns.map_or(PLAIN_DATAGRAM, |size| usize::from(size.min(LARGEST_DATAGRAM)));
        Self::new(query, rcode, limit)
    }

    /// An answer for a stream.
    pub fn stream(query: &Query, rcode: Rcode) -> Self {
        Self::new(query, rcode, usize::from(u16::MAX))
    }

    fn new(query: &Query, rcode: Rcode, limit: usize) -> Self {
        let mut bytes = Self::bare(query.id, query.flags, rcode);
        bytes[5] = 1;
        bytes.extend_from_slice(query.name.wire());
        bytes.extend_from_slice(&query.kind.number().to_be_bytes());
        bytes.extend_from_slice(&query.class.to_be_bytes());
        let options = query.edns.is_some();
        // The options come last, but have to fit.
        let limit = limit - if options { OPTIONS.len() } else { 0 };
        Answer { bytes, limit, options, answers: 0, additional: 0, full: false }
    }

    /// A header alone.
    pub(crate) fn bare(id: u16, flags: u16, rcode: Rcode) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        let flags = RESPONSE | RECURSION_AVAILABLE | flags & REPEATED | rcode as u16;
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes
    }

    /// The question's name has this address.
    pub fn address(&mut self, address: IpAddr) {
        self.add(&QUESTION, kind_of(address), |bytes| push_address(bytes, address));
    }

    /// The question's address has this name.
    pub fn pointer(&mut self, name: &Name) {
        self.add(&QUESTION, Kind::Ptr, |bytes| bytes.extend_from_slice(name.wire()));
    }

    /// The question's service is at this port of `target`.
    pub fn service(&mut self, port: u16, target: &Name) {
        self.add(&QUESTION, Kind::Srv, |bytes| {
            // Priority and weight: all are equal.
            bytes.extend_from_slice(&[0, 0, 0, 1]);
            bytes.extend_from_slice(&port.to_be_bytes());
            bytes.extend_from_slice(target.wire());
        });
    }

    /// Besides: the address of a name that was mentioned. Left out where it does not fit.
    pub fn also(&mut self, name: &Name, address: IpAddr) {
        let answers = self.answers;
        if !self.full && self.record(name.wire(), kind_of(address), |bytes| push_address(bytes, address)) {
            self.additional += 1;
        }
        debug_assert_eq!(answers, self.answers, "answers come first");
    }

    fn add(&mut self, name: &[u8], kind: Kind, data: impl FnOnce(&mut Vec<u8>)) {
        if self.full {
            return;
        }
        if self.record(name, kind, data) {
            self.answers += 1;
        } else {
            self.full = true;
            self.bytes[2] |= TRUNCATED;
        }
    }

    /// Writes a record, or nothing if it does not fit.
    fn record(&mut self, name: &[u8], kind: Kind, data: impl FnOnce(&mut Vec<u8>)) -> bool {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(&kind.number().to_be_bytes());
        self.bytes.extend_from_slice(&1u16.to_be_bytes());
        self.bytes.extend_from_slice(&TTL.to_be_bytes());
        let length_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        data(&mut self.bytes);
        let length = u16::try_from(self.bytes.len() - length_at - 2).unwrap_or(u16::MAX);
        self.bytes[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        let fits = self.bytes.len() <= self.limit;
        if !fits {
            self.bytes.truncate(start);
        }
        fits
    }

    /// The message.
    pub fn finish(mut self) -> Vec<u8> {
        if self.options {
            self.bytes.extend_from_slice(&OPTIONS);
            self.additional += 1;
        }
        self.bytes[6..8].copy_from_slice(&self.answers.to_be_bytes());
        self.bytes[10..12].copy_from_slice(&self.additional.to_be_bytes());
        self.bytes
    }
}

/// The root's name, type OPT, our datagram size, version 0, no options (RFC 6891).
const OPTIONS: [u8; 11] =
    [0, 0, 41, LARGEST_DATAGRAM.to_be_bytes()[0], LARGEST_DATAGRAM.to_be_bytes()[1], 0, 0, 0, 0, 0, 0];

fn kind_of(address: IpAddr) -> Kind {
    if address.is_ipv4() { Kind::A } else { Kind::Aaaa }
}

fn push_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::tests::message;

    fn query(kind: u16, edns: Option<u16>) -> Query {
        Query::parse(&message(0x1234, "web", kind, edns)).unwrap()
    }

    #[test]
    fn an_address_byte_for_byte() {
        let mut answer = Answer::datagram(&query(1, None), Rcode::NoError);
        answer.address("10.0.0.2".parse().unwrap());
        let expected = b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x03web\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x0a\0\0\x02";
        assert_eq!(answer.finish(), expected);
    }

    #[test]
    fn a_service_comes_with_its_address() {
        let mut answer = Answer::datagram(&query(33, Some(4096)), Rcode::NoError);
        let target = Name::from_text("web.front").unwrap();
        answer.service(80, &target);
        answer.also(&target, "fd00::2".parse().unwrap());
        let bytes = answer.finish();
        assert_eq!(&bytes[4..12], [0, 1, 0, 1, 0, 0, 0, 2], "the options are counted");
        assert!(bytes.ends_with(&OPTIONS));
        assert!(bytes.windows(8).any(|w| w == b"\0\x50\x03web\x05f"), "the port, then the target");
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_that_is_said() {
        for (edns, most) in [(None, 512), (Some(600), 600), (Some(u16::MAX), 4096)] {
            let mut answer = Answer::datagram(&query(1, edns), Rcode::NoError);
            for host in 0..400u16 {
                let [high, low] = host.to_be_bytes();
                answer.address([10, 0, high, low].into());
            }
            let bytes = answer.finish();
            assert!(bytes.len() <= most && bytes.len() > most - 28, "{} of {most}", bytes.len());
            assert_eq!(bytes[2] & TRUNCATED, TRUNCATED);
            let options = if edns.is_some() { OPTIONS.len() } else { 0 };
            let records = usize::from(u16::from_be_bytes([bytes[6], bytes[7]]));
            assert_eq!(HEADER + 9 + records * 16 + options, bytes.len());
        }
        let mut answer = Answer::stream(&query(1, None), Rcode::NoError);
        for host in 0..400u16 {
            let [high, low] = host.to_be_bytes();
            answer.address([10, 0, high, low].into());
        }
        let bytes = answer.finish();
        assert_eq!((bytes[2] & TRUNCATED, u16::from_be_bytes([bytes[6], bytes[7]])), (0, 400));
    }
}

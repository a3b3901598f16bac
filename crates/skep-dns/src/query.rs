//! Questions of containers.

use crate::answer::{Answer, Rcode};
use crate::name::{Name, skip};

pub(crate) const HEADER: usize = 12;
const TYPE_OPT: u16 = 41;
/// Below this, what a client says about the size of its datagrams counts as this (RFC 6891, 6.2.3).
const SMALLEST_DATAGRAM: u16 = 512;
/// Records that a question may have besides the one with its options: a signature, a cookie.
const MOST_RECORDS: u16 = 8;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// The name of an address.
    Ptr,
    /// Who serves what, and at which port.
    Srv,
    /// Anything else, by its number.
    Other(u16),
}

impl Kind {
    fn from_number(number: u16) -> Self {
        match number {
            1 => Kind::A,
            12 => Kind::Ptr,
            28 => Kind::Aaaa,
            33 => Kind::Srv,
            other => Kind::Other(other),
        }
    }

    pub(crate) fn number(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Ptr => 12,
            Kind::Aaaa => 28,
            Kind::Srv => 33,
            Kind::Other(number) => number,
        }
    }
}

/// A question that can be answered or passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What the answer has to repeat.
    pub id: u16,
    /// The second half of the header's first line, as it came: what is wanted of whoever answers.
    pub(crate) flags: u16,
    /// The name it is about.
    pub name: Name,
    /// What it wants to know.
    pub kind: Kind,
    /// Usually 1, the Internet.
    pub class: u16,
    /// The largest datagram that the client takes, if it knows of extensions (EDNS).
    pub edns: Option<u16>,
}

/// A message that is no question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It deserves no answer: an answer itself, or too short to have an id.
    Ignore,
    /// This is the answer.
    Answer(Vec<u8>),
}

impl Query {
    /// Whether it is about the Internet, as all names of containers are.
    pub fn is_internet(&self) -> bool {
        self.class == 1
    }

    /// Reads a message.
    pub fn parse(bytes: &[u8]) -> Result<Query, Refusal> {
        let header = bytes.first_chunk::<HEADER>().ok_or(Refusal::Ignore)?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (id, flags) = (word(0), word(2));
        if flags & 0x8000 != 0 {
            return Err(Refusal::Ignore);
        }
        let refuse = |rcode| Refusal::Answer(Answer::bare(id, flags, rcode));
        if flags >> 11 & 0xf != 0 {
            return Err(refuse(Rcode::NotImplemented));
        }
        let malformed = || refuse(Rcode::FormatError);
        let counts = [word(4), word(6), word(8), word(10)];
        let [1, 0, 0, ..=MOST_RECORDS] = counts else { return Err(malformed()) };
        let (name, end) = Name::read(bytes, HEADER).ok_or_else(malformed)?;
        let at = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let (Some(kind), Some(class)) = (at(end), at(end + 2)) else { return Err(malformed()) };
        let edns = options(bytes, end + 4, counts[3]).ok_or_else(malformed)?;
        Ok(Query { id, flags, name, kind: Kind::from_number(kind), class, edns })
    }
}

/// The datagram size of the options among the additional records, if there are options. None if the records are broken.
fn options(bytes: &[u8], mut at: usize, records: u16) -> Option<Option<u16>> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let mut size = None;
    for _ in 0..records {
        let fixed = skip(bytes, at)?;
        if word(fixed)? == TYPE_OPT {
            size = Some(word(fixed + 2)?.max(SMALLEST_DATAGRAM));
        }
        at = fixed + 10 + usize::from(word(fixed + 8)?);
        bytes.get(..at)?;
    }
    Some(size)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A question as clients send it.
    pub(crate) fn message(id: u16, name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [id, 0x0100, 1, 0, 0, u16::from(edns.is_some())] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes.extend_from_slice(Name::from_text(name).unwrap().wire());
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&1u16.to_be_bytes());
        if let Some(size) = edns {
            bytes.extend_from_slice(&[0, 0, 41]);
            bytes.extend_from_slice(&size.to_be_bytes());
            bytes.extend_from_slice(&[0; 6]);
        }
        bytes
    }

    #[test]
    fn a_question_is_read() {
        let query = Query::parse(&message(7, "Web.front", 28, Some(1232))).unwrap();
        assert_eq!((query.id, query.kind, query.class, query.edns), (7, Kind::Aaaa, 1, Some(1232)));
        assert_eq!(query.name.text().as_deref(), Some("web.front"));
        assert_eq!(Query::parse(&message(7, "a", 1, Some(1))).unwrap().edns, Some(512));
        assert_eq!(Query::parse(&message(7, "a", 1, None)).unwrap().edns, None);
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let good = message(7, "web", 1, None);
        assert_eq!(Query::parse(&good[..11]), Err(Refusal::Ignore));
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Query::parse(&bytes)
        };
        assert_eq!(with(2, 0x80), Err(Refusal::Ignore), "an answer");
        let rcode = |result: Result<Query, Refusal>| match result {
            Err(Refusal::Answer(bytes)) => Some((bytes[3] & 15, bytes.len())),
            _ => None,
        };
        assert_eq!(rcode(with(2, 0x28)), Some((4, 12)), "an update");
        for (at, value) in [(5, 0), (5, 2), (7, 1), (9, 1), (11, 1), (10, 255), (12, 0xc0), (12, 60)] {
            assert_eq!(rcode(with(at, value)), Some((1, 12)), "byte {at} = {value}");
        }
        assert_eq!(rcode(Query::parse(&good[..good.len() - 1])), Some((1, 12)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Query::parse(&bytes);
        }

        #[test]
        fn broken_questions_are_read_or_refused(at in 0usize..40, value in any::<u8>()) {
            let mut bytes = message(7, "web.front", 1, Some(4096));
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(query) = Query::parse(&bytes) {
                let _ = (query.name.text(), query.name.reversed_address());
            }
        }
    }
}

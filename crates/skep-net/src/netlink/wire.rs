//! The byte form of netlink messages and attributes (netlink(7)): everything is aligned to four bytes, lengths include
//! the header and exclude the padding.

const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
const NESTED: u16 = 1 << 15;

/// Requests that are sent together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    messages: u32,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Batch { bytes: Vec::with_capacity(1024), messages: 0 }
    }

    /// Adds a message. Its sequence number is its place in the batch, counted from one.
    pub(crate) fn message(&mut self, kind: u16, flags: i32, fill: impl FnOnce(&mut Message<'_>)) {
        self.messages += 1;
        let start = self.bytes.len();
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).expect("flags of netlink fit 16 bits");
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.messages.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        fill(&mut Message { bytes: &mut self.bytes });
        let length = u32::try_from(self.bytes.len() - start).expect("a message is far below 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The message being written.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Message<'_> {
    /// Fixed part of a message, before its attributes.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// A number in network order, as netfilter's messages have them.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A text with its closing NUL.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
    }

    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.open(kind | NESTED);
        fill(self);
        self.close(start);
    }

    /// As [`Message::nest`], without the flag that marks nests: for the old attributes that are read without it.
    pub(crate) fn nest_unmarked(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.open(kind);
        fill(self);
        self.close(start);
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start).expect("callers split lists below 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

/// A message from the kernel.
pub(crate) struct Received<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// Of an announcement: the socket whose request it comes from.
    pub(crate) port: u32,
    pub(crate) payload: &'a [u8],
}

/// The messages in what one `recv` returned; a broken one ends the list.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(read_u32(bytes)?).ok()?;
        let payload = bytes.get(HEADER..length)?;
        let message = Received {
            kind: read_u16(bytes.get(4..)?)?,
            flags: read_u16(bytes.get(6..)?)?,
            sequence: read_u32(bytes.get(8..)?)?,
            port: read_u32(bytes.get(12..)?)?,
            payload,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in `bytes`, with their kinds stripped of flags; a broken one ends the list.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(bytes)?);
        let kind = read_u16(bytes.get(2..)?)? & 0x3fff;
        let value = bytes.get(ATTRIBUTE_HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a kind.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

pub(crate) fn read_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

fn read_u16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|b| u16::from_ne_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut batch = Batch::new();
        batch.message(16, libc::NLM_F_ACK, |m| {
            m.raw(&[7; 16]);
            m.text(3, "br0");
            m.nest(18, |m| m.u32(4, 99));
        });
        batch.message(17, 0, |m| m.raw(&[1; 4]));
        let read: Vec<_> = messages(batch.bytes()).collect();
        assert_eq!(read.iter().map(|m| (m.kind, m.sequence)).collect::<Vec<_>>(), [(16, 1), (17, 2)]);
        let attrs = &read[0].payload[16..];
        assert_eq!(find(attrs, 3), Some(&b"br0\0"[..]));
        assert_eq!(find(attrs, 18).and_then(|n| find(n, 4)).and_then(read_u32), Some(99));
    }

    #[test]
    fn broken_input_ends_the_list() {
        assert_eq!(messages(&[5, 0, 0, 0, 1]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0, 9]).count(), 0);
        assert_eq!(attributes(&[0; 8]).count(), 0);
    }
}

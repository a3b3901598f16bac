//! Docker's multiplexed stream: stdout and stderr of a process in one connection.
//!
//! ```text
//! frame = source:u8  0 0 0  length:u32 (big endian)  length bytes
//! source: 0 stdin, 1 stdout, 2 stderr, 3 an error of the engine
//! ```

use bytes::{Buf, Bytes, BytesMut};

use crate::error::{Error, Result};

const HEADER: usize = 8;

/// Where a frame comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output (and the echo of standard input, source 0).
    Stdout,
    /// Standard error.
    Stderr,
    /// A message of the engine that ends the stream.
    System,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which stream it belongs to.
    pub source: Source,
    /// The bytes.
    pub data: Bytes,
}

/// Takes the stream apart. A frame longer than what has come yet is handed out in pieces, so that nothing piles up.
#[derive(Debug, Default)]
pub struct Demultiplexer {
    buffer: BytesMut,
    /// The frame being read and how much of it is missing.
    open: Option<(Source, usize)>,
}

impl Demultiplexer {
    /// Adds bytes from the connection.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next piece, None if more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        loop {
            match self.open {
                Some((_, 0)) => self.open = None,
                Some((source, missing)) => {
                    if self.buffer.is_empty() {
                        return Ok(None);
                    }
                    let length = missing.min(self.buffer.len());
                    self.open = Some((source, missing - length));
                    return Ok(Some(Frame { source, data: self.buffer.split_to(length).freeze() }));
                }
                None => {
                    if self.buffer.len() < HEADER {
                        return Ok(None);
                    }
                    let source = match self.buffer[0] {
                        0 | 1 => Source::Stdout,
                        2 => Source::Stderr,
                        3 => Source::System,
                        other => return Err(Error::StreamHeader(other)),
                    };
                    self.buffer.advance(4);
                    let length = self.buffer.get_u32();
                    self.open = Some((source, usize::try_from(length).unwrap_or(usize::MAX)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_apart_whatever_the_cuts() {
        let mut wire = Vec::new();
        for (source, text) in [(1u8, "hello "), (2, "err"), (1, ""), (1, "world")] {
            wire.extend_from_slice(&[source, 0, 0, 0, 0, 0, 0, u8::try_from(text.len()).expect("short")]);
            wire.extend_from_slice(text.as_bytes());
        }
        for size in 1..wire.len() {
            let mut demultiplexer = Demultiplexer::default();
            let (mut out, mut err) = (Vec::new(), Vec::new());
            for piece in wire.chunks(size) {
                demultiplexer.push(piece);
                while let Some(frame) = demultiplexer.next_frame().expect("a good stream") {
                    match frame.source {
                        Source::Stdout => out.extend_from_slice(&frame.data),
                        Source::Stderr => err.extend_from_slice(&frame.data),
                        Source::System => panic!("no such frame"),
                    }
                }
            }
            assert_eq!((out.as_slice(), err.as_slice()), (b"hello world".as_slice(), b"err".as_slice()));
        }
    }

    #[test]
    fn a_wrong_header_is_refused() {
        let mut demultiplexer = Demultiplexer::default();
        demultiplexer.push(b"HTTP/1.1");
        assert!(demultiplexer.next_frame().is_err());
    }
}

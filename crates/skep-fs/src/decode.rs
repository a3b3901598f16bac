//! Plain, gzip and zstd streams, told apart by their first bytes.
//!
//! The media type of a layer or the name of a file says nothing reliable, so only the bytes count, as in Docker.
//! Other programs are never called to decompress (CVE-2026-41567): bzip2 and xz are refused by name.

use std::io::{self, BufReader, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use crate::apply::Limits;

/// A zstd frame that wants a larger window than this (128 MiB) is refused: it is memory that the frame's maker chooses.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const BUFFER: usize = 64 * 1024;
const HEAD: usize = 6;

/// The stream with its first bytes, which were looked at, put back in front.
type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip (RFC 1952), possibly of several members.
    Gzip,
    /// Zstandard (RFC 8878), possibly of several frames.
    Zstd,
}

/// A stream that decompresses itself.
pub enum Decoder<R: Read> {
    /// Passed through.
    Plain(Source<R>),
    /// gzip.
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    /// zstd.
    Zstd(Box<zstd::Decoder<'static, Source<R>>>),
}

/// What the first bytes of a stream tell. Six bytes are enough; a shorter stream is plain.
pub fn detect(head: &[u8]) -> io::Result<Compression> {
    match head {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        // A skippable frame, which may stand before the first frame with data.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [b'B', b'Z', b'h', ..] => Err(unsupported("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(unsupported("xz")),
        _ => Ok(Compression::Plain),
    }
}

fn unsupported(name: &str) -> io::Error {
    let message = format!("{name} compressed archives are not supported: use gzip, zstd or no compression");
    io::Error::new(io::ErrorKind::Unsupported, message)
}

impl<R: Read> Decoder<R> {
    /// Reads the first bytes of `input` and makes the decoder they call for.
    pub fn new(input: R) -> io::Result<Self> {
        let mut input = input;
        let head = read_head(&mut input)?;
        let compression = detect(&head)?;
        let first = BufReader::with_capacity(BUFFER, Cursor::new(head).chain(input));
        match compression {
            Compression::Plain => Ok(Decoder::Plain(first)),
            Compression::Gzip => Ok(Decoder::Gzip(Box::new(MultiGzDecoder::new(first)))),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(first)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Ok(Decoder::Zstd(Box::new(decoder)))
            }
        }
    }

    /// How the stream is compressed.
    pub fn compression(&self) -> Compression {
        match self {
            Decoder::Plain(_) => Compression::Plain,
            Decoder::Gzip(_) => Compression::Gzip,
            Decoder::Zstd(_) => Compression::Zstd,
        }
    }
}

/// The first bytes of a stream: six, or all there are. One read may give fewer.
fn read_head(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    input.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(inner) => inner.read(out),
            Decoder::Gzip(inner) => inner.read(out),
            Decoder::Zstd(inner) => inner.read(out),
        }
    }
}

/// A stream that decompresses itself, and fails when it gets larger than an archive may.
pub struct Bounded<R: Read> {
    decoder: Decoder<Counted<R>>,
    limits: Limits,
    /// Bytes that were read of the compressed stream.
    taken: Arc<AtomicU64>,
    given: u64,
}

struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl<R: Read> Bounded<R> {
    /// As [`Decoder::new`], within `limits`.
    pub fn new(input: R, limits: Limits) -> io::Result<Self> {
        let taken = Arc::new(AtomicU64::new(0));
        let decoder = Decoder::new(Counted { inner: input, taken: Arc::clone(&taken) })?;
        Ok(Bounded { decoder, limits, taken, given: 0 })
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(out)?;
        self.given += count as u64;
        let Limits { bytes, ratio, ratio_from, .. } = self.limits;
        if self.given > bytes {
            let message = format!("the archive is larger than {bytes} bytes when it is decompressed");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if self.given > ratio_from && self.given / ratio > self.taken.load(Ordering::Relaxed) {
            let message = format!("the archive is more than {ratio} times larger when it is decompressed");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(count)
    }
}

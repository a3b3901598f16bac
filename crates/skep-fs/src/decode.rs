//! Plain, gzip, zstd, bzip2 and xz streams, told apart by their first bytes.
//!
//! The media type of a layer or the name of a file says nothing reliable, so only the bytes count, as in Docker.
//! Other programs are never called to decompress (CVE-2026-41567), and the decoders of the two old formats are safe Rust.

use std::io::{self, BufReader, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

use crate::apply::Limits;

/// A zstd frame that wants a larger window than this (128 MiB) is refused: it is memory that the frame's maker chooses.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// The same for xz: what its own highest setting needs is half of it.
const XZ_MEMORY_KIB: u32 = 128 << 10;
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
    /// bzip2, possibly of several streams. Only read.
    Bzip2,
    /// xz, possibly of several streams. Only read.
    Xz,
}

/// A stream that decompresses itself.
pub enum Decoder<R: Read> {
    /// Passed through.
    Plain(Source<R>),
    /// gzip.
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    /// zstd.
    Zstd(Box<zstd::Decoder<'static, Source<R>>>),
    /// bzip2.
    Bzip2(Box<MultiBzDecoder<Source<R>>>),
    /// xz.
    Xz(Box<XzReader<Source<R>>>),
}

/// What the first bytes of a stream tell. Six bytes are enough; a shorter stream is plain.
pub fn detect(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A skippable frame, which may stand before the first frame with data.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [b'B', b'Z', b'h', ..] => Compression::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        _ => Compression::Plain,
    }
}

impl<R: Read> Decoder<R> {
    /// Reads the first bytes of `input` and makes the decoder they call for.
    pub fn new(input: R) -> io::Result<Self> {
        let mut input = input;
        let head = read_head(&mut input)?;
        let compression = detect(&head);
        let first = BufReader::with_capacity(BUFFER, Cursor::new(head).chain(input));
        match compression {
            Compression::Plain => Ok(Decoder::Plain(first)),
            Compression::Gzip => Ok(Decoder::Gzip(Box::new(MultiGzDecoder::new(first)))),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(first)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Ok(Decoder::Zstd(Box::new(decoder)))
            }
            Compression::Bzip2 => Ok(Decoder::Bzip2(Box::new(MultiBzDecoder::new(first)))),
            Compression::Xz => Ok(Decoder::Xz(Box::new(XzReader::new_mem_limit(first, true, XZ_MEMORY_KIB)))),
        }
    }

    /// How the stream is compressed.
    pub fn compression(&self) -> Compression {
        match self {
            Decoder::Plain(_) => Compression::Plain,
            Decoder::Gzip(_) => Compression::Gzip,
            Decoder::Zstd(_) => Compression::Zstd,
            Decoder::Bzip2(_) => Compression::Bzip2,
            Decoder::Xz(_) => Compression::Xz,
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
            Decoder::Bzip2(inner) => inner.read(out),
            Decoder::Xz(inner) => inner.read(out),
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// What a program makes of `input`.
    fn made_by(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = Command::new(program);
        let child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("the program (cargo xtask deps)");
        let (mut stdin, input) = (child.stdin.take().expect("a pipe"), input.to_vec());
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("its output");
        writer.join().expect("no panic").expect("written");
        assert!(output.status.success(), "{program}");
        output.stdout
    }

    fn sample() -> Vec<u8> {
        (0..700_000_u32).flat_map(|n| (n.wrapping_mul(n) % 977).to_le_bytes()).collect()
    }

    fn decoded(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Decoder::new(bytes)?.read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn what_xz_and_bzip2_make_is_read() {
        let input = sample();
        for (program, arguments) in [
            ("xz", &["-c", "-0"][..]),
            ("xz", &["-c", "-9", "--check=sha256"]),
            ("xz", &["-c", "--check=none", "--block-size=100000"]),
            ("xz", &["-c", "--x86", "--lzma2"]),
            ("bzip2", &["-c", "-1"]),
            ("bzip2", &["-c", "-9"]),
        ] {
            let once = made_by(program, arguments, &input);
            assert!(decoded(&once).expect("decoded") == input, "{program} {arguments:?}");
            let twice = [once.clone(), once.clone()].concat();
            assert!(decoded(&twice).expect("decoded") == input.repeat(2), "two streams: {program} {arguments:?}");
            assert!(decoded(&once[..once.len() / 2]).is_err(), "cut: {program} {arguments:?}");
            let mut damaged = once.clone();
            damaged[once.len() / 2] ^= 0x55;
            assert!(decoded(&damaged).is_err() || arguments.contains(&"--check=none"), "{program} {arguments:?}");
        }
        assert!(decoded(&made_by("xz", &["-c"], b"")).expect("decoded").is_empty());
        assert!(decoded(&made_by("bzip2", &["-c"], b"")).expect("decoded").is_empty());
    }

    #[test]
    fn memory_and_size_are_bounded() {
        // Two gigabytes of window, for nothing.
        let greedy = made_by("xz", &["-c", "--lzma2=preset=0,dict=1GiB"], b"small");
        let error = decoded(&greedy).expect_err("too much memory").to_string();
        assert!(error.to_lowercase().contains("memory"), "{error}");
        let zeros = vec![0; 20 << 20];
        let limits = Limits { bytes: 1 << 20, ..Limits::default() };
        let steep = Limits { ratio: 10, ratio_from: 1 << 20, ..Limits::default() };
        for bomb in [made_by("xz", &["-c"], &zeros), made_by("bzip2", &["-c"], &zeros)] {
            for limits in [limits, steep] {
                let mut bounded = Bounded::new(&bomb[..], limits).expect("a stream");
                let taken = io::copy(&mut bounded, &mut io::sink()).expect_err("too large");
                assert_eq!(taken.kind(), io::ErrorKind::InvalidData);
            }
        }
    }
}

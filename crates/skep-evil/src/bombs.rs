//! Streams that are small only until they are unpacked. They are made while they are read: none is ever in memory.

use std::io::{self, Read};

use crate::tar::{BLOCK, Header, Tar, header, octal};

/// A stream that costs more than it looks.
pub struct Bomb {
    /// Names the case in failures.
    pub name: &'static str,
    /// The stream.
    pub stream: Box<dyn Read + Send>,
}

/// An endless archive: `part(n)` is what comes as the nth.
struct Parts<F> {
    part: F,
    number: u64,
    count: u64,
    current: io::Cursor<Vec<u8>>,
}

impl<F: FnMut(u64) -> Vec<u8>> Read for Parts<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.current.read(out)? {
                0 if self.number < self.count => {
                    self.current = io::Cursor::new((self.part)(self.number));
                    self.number += 1;
                }
                count => return Ok(count),
            }
        }
    }
}

fn parts(count: u64, part: impl FnMut(u64) -> Vec<u8> + Send + 'static) -> Box<dyn Read + Send> {
    Box::new(Parts { part, number: 0, count, current: io::Cursor::new(Vec::new()) })
}

fn gzip(input: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    Box::new(flate2::read::GzEncoder::new(input, flate2::Compression::fast()))
}

/// Zeros in a file of `bytes`, plain.
pub fn zeros(bytes: u64) -> impl Read + Send + 'static {
    let head = Tar::new().raw(&Header { size: octal(bytes, 12), ..header(b'0', "zeros") }).cut();
    let padding = bytes.next_multiple_of(BLOCK as u64) - bytes + 2 * BLOCK as u64;
    io::Cursor::new(head).chain(io::repeat(0).take(bytes + padding))
}

/// So many empty files, in gzip.
pub fn files(count: u64) -> Box<dyn Read + Send> {
    gzip(parts(count, |n| Tar::new().raw(&header(b'0', format!("d{}/f{n}", n % 100))).cut()))
}

/// Bombs of about `bytes` each when they are unpacked, and what they aim at.
pub fn all(bytes: u64) -> Vec<Bomb> {
    let bomb = |name, stream| Bomb { name, stream };
    let window = move || {
        let mut encoder = zstd::stream::read::Encoder::new(zeros(bytes), 1).expect("zstd");
        encoder.window_log(27).expect("zstd");
        encoder.long_distance_matching(true).expect("zstd");
        encoder
    };
    let empty = crate::layers::gzip(b"");
    vec![
        bomb("zeros in gzip", gzip(zeros(bytes))),
        bomb("zeros in zstd with a large window", Box::new(window())),
        bomb("empty files", files(bytes / 2048)),
        bomb(
            "directories with long names",
            gzip(parts(bytes / 8192, |n| {
                let path = format!("{}{n}", format!("{}/", "n".repeat(250)).repeat(15));
                Tar::new().pax([("path", path.as_bytes())]).raw(&header(b'5', "x")).cut()
            })),
        ),
        bomb("global headers", gzip(parts(bytes / 1024, |_| Tar::new().pax([("comment", "x".repeat(400))]).cut()))),
        bomb("garbage behind the end", gzip(io::Cursor::new(Tar::new().end()).chain(io::repeat(0xaa).take(bytes)))),
        bomb(
            "records of attributes",
            gzip(parts(bytes / 65536, |n| {
                let records: Vec<(String, String)> =
                    (0..60).map(|k| (format!("SCHILY.xattr.user.{n}.{k}"), "v".repeat(1000))).collect();
                Tar::new().pax(records).cut()
            })),
        ),
        bomb(
            "one name again and again",
            gzip(parts(bytes / 65536, |n| {
                if n % 2 == 0 { Tar::new().file("x", &[1; 60_000]).cut() } else { Tar::new().dir("x").dir("x/y").cut() }
            })),
        ),
        bomb("empty members of gzip", parts(bytes / 4096, move |_| empty.clone())),
    ]
}

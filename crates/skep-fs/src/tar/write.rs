//! Writing a tar archive: ustar headers, with PAX records for what doesn't fit in them.

use std::io::{self, Read, Write};

use super::{BLOCK, Entry, Kind, XATTR_RECORD};

/// The largest number of an eleven digit octal field.
const SIZE_MAX: u64 = 0o77_777_777_777;
/// The largest number of a seven digit octal field.
const ID_MAX: u32 = 0o7_777_777;

/// A tar archive being written. Call [`Writer::finish`], or the archive has no end.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Writes an archive to `out`.
    pub fn new(out: W) -> Self {
        Writer { out }
    }

    /// Writes one entry; `data` gives the contents of a file and has at least `entry.size` bytes. A file that gives
    /// fewer, because it shrank meanwhile, is filled up with zeros.
    pub fn entry(&mut self, entry: &Entry, data: Option<&mut dyn Read>) -> io::Result<()> {
        let size = self.header(entry)?;
        if let Some(data) = data.filter(|_| size > 0) {
            let copied = io::copy(&mut data.take(size), &mut self.out)?;
            io::copy(&mut io::repeat(0).take(size - copied), &mut self.out)?;
            self.pad(size)?;
        }
        Ok(())
    }

    /// Writes what stands before an entry's contents; returns how many bytes of contents have to follow, and then [`Writer::pad`].
    pub(crate) fn header(&mut self, entry: &Entry) -> io::Result<u64> {
        let records = records(entry);
        if !records.is_empty() {
            let length = records.len() as u64;
            self.out.write_all(&header(b"././@PaxHeader", b'x', length, &blank(entry)))?;
            self.out.write_all(&records)?;
            self.pad(length)?;
        }
        let flag = match entry.kind {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::Symlink => b'2',
            Kind::Char => b'3',
            Kind::Block => b'4',
            Kind::Dir => b'5',
            Kind::Fifo => b'6',
        };
        let size = if entry.kind == Kind::File { entry.size } else { 0 };
        self.out.write_all(&header(&entry.path, flag, size, entry))?;
        Ok(size)
    }

    /// What was written, to be taken away.
    pub(crate) fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Writes the end of the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Fills up the last block of contents of this size.
    pub(crate) fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        self.out.write_all(&[0; BLOCK][..(BLOCK - over) % BLOCK])
    }
}

/// The entry whose header stands before PAX records: no time, no owner, so that archives of the same tree are the same.
fn blank(entry: &Entry) -> Entry {
    Entry { link: Vec::new(), mode: 0o644, uid: 0, gid: 0, mtime: (0, 0), device: (0, 0), ..entry.clone() }
}

fn records(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| push_record(&mut records, key, value);
    if entry.path.len() > 100 || !entry.path.is_ascii() {
        add(b"path", &entry.path);
    }
    if entry.link.len() > 100 || !entry.link.is_ascii() {
        add(b"linkpath", &entry.link);
    }
    if entry.size > SIZE_MAX {
        add(b"size", entry.size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if id > ID_MAX {
            add(key, id.to_string().as_bytes());
        }
    }
    let (seconds, nanoseconds) = entry.mtime;
    if nanoseconds != 0 || !(0..=SIZE_MAX.cast_signed()).contains(&seconds) {
        add(b"mtime", time(seconds, nanoseconds).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        add(&[XATTR_RECORD, name].concat(), value);
    }
    records
}

/// `seconds.fraction`; the fraction counts from zero, also before 1970.
fn time(seconds: i64, nanoseconds: u32) -> String {
    let (sign, whole, part) = match (seconds < 0, nanoseconds) {
        (true, 1..) => ("-", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (false, _) => ("", seconds.unsigned_abs(), nanoseconds),
    };
    let text = format!("{sign}{whole}.{part:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `length key=value\n`, where the length counts its own digits.
fn push_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    for part in [key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

fn header(path: &[u8], flag: u8, size: u64, entry: &Entry) -> [u8; BLOCK] {
    let mut block = [0u8; BLOCK];
    let mut text = |at: usize, room: usize, bytes: &[u8]| {
        let length = bytes.len().min(room);
        block[at..at + length].copy_from_slice(&bytes[..length]);
    };
    text(0, 100, path);
    text(157, 100, &entry.link);
    text(257, 8, b"ustar\x0000");
    let seconds = u64::try_from(entry.mtime.0).unwrap_or(0);
    let small = |id: u32| u64::from(if id > ID_MAX { 0 } else { id });
    for (at, digits, value) in [
        (100, 7, u64::from(entry.mode & 0o7777)),
        (108, 7, small(entry.uid)),
        (116, 7, small(entry.gid)),
        (124, 11, if size > SIZE_MAX { 0 } else { size }),
        (136, 11, if seconds > SIZE_MAX { 0 } else { seconds }),
        (329, 7, u64::from(entry.device.0)),
        (337, 7, u64::from(entry.device.1)),
    ] {
        text(at, digits, format!("{value:0digits$o}").as_bytes());
    }
    block[156] = flag;
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

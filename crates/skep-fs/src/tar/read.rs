//! Reading a tar archive entry by entry.
//!
//! All that isn't file contents (headers, extension records, padding, what follows the end) is collected and handed over
//! by [`Reader::take_raw`], so that the archive can be made again byte by byte. Memory is bounded whatever the archive says.

use std::io::{self, BufRead, Read, Seek};

use super::{BLOCK, Entry, Kind, XATTR_RECORD};

/// The largest extension header (long name, PAX records) that is read.
const EXTENSION_MAX: u64 = 1 << 20;
/// The most bytes of extension headers, themselves included, before one entry.
const EXTENSIONS_MAX: u64 = 4 << 20;
/// The most pieces of one sparse file.
const PIECES_MAX: usize = 1 << 16;
/// Pieces in one block of a sparse map in the old GNU format.
const PIECES_A_BLOCK: usize = 21;

/// Why a stream isn't a tar archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// Reading failed; an early end of the stream is `UnexpectedEof`.
    #[error("reading the archive: {0}")]
    Io(#[from] io::Error),
    /// A header whose sum is wrong: not a tar archive, or a damaged one.
    #[error("archive/tar: invalid tar header")]
    Header,
    /// A record of an extension header that makes no sense.
    #[error("archive/tar: invalid extension record: {0}")]
    Record(&'static str),
    /// An extension header larger than any real one.
    #[error("archive/tar: extension header of {0} bytes")]
    ExtensionTooLarge(u64),
    /// An entry type that can't be unpacked.
    #[error("unhandled tar header type {0}")]
    Type(u8),
}

/// A tar archive being read.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    raw: Vec<u8>,
    /// Bytes of the present entry's data that have not been read.
    left: u64,
    /// Padding after them.
    padding: usize,
}

/// To the kernel, the owner -1 is none: the file would stay root's.
const NOBODY: u32 = u32::MAX;

/// What extension headers say about the next entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: Sparse,
}

#[derive(Default)]
struct Sparse {
    major_one: bool,
    name: Option<Vec<u8>>,
    real_size: Option<u64>,
    map: Option<Vec<(u64, u64)>>,
}

impl<R: BufRead> Reader<R> {
    /// Data of the present entry that is at hand, at most `most` bytes; empty at the entry's end. Say with [`consume`](Self::consume)
    /// how much of it was used.
    pub fn chunk(&mut self, most: u64) -> io::Result<&[u8]> {
        let want = self.left.min(most);
        if want == 0 {
            return Ok(&[]);
        }
        let chunk = self.input.fill_buf()?;
        if chunk.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(&chunk[..chunk.len().min(usize::try_from(want).unwrap_or(usize::MAX))])
    }

    /// So many bytes of the last [`chunk`](Self::chunk) are done with.
    pub fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.left -= count as u64;
    }
}

impl<R: Read> Reader<R> {
    /// Reads an archive that is not compressed.
    pub fn new(input: R) -> Self {
        Reader { input, raw: Vec::new(), left: 0, padding: 0 }
    }

    /// What was read since the last call besides file contents.
    pub fn take_raw(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.raw)
    }

    /// Bytes that [`Reader::take_raw`] would give.
    pub fn raw_len(&self) -> usize {
        self.raw.len()
    }

    /// The next entry; `None` after the last. Data of the present one that was not
    /// read counts as raw, and is refused when it is long.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip_rest()?;
        let mut extensions = Extensions::default();
        let mut total = 0u64;
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let size = number(&header[124..136])?;
            if matches!(header[156], b'x' | b'g' | b'L' | b'K') {
                total = total.saturating_add(BLOCK as u64).saturating_add(u64::try_from(size).unwrap_or(0));
                if total > EXTENSIONS_MAX {
                    return Err(TarError::ExtensionTooLarge(total));
                }
            }
            match header[156] {
                b'x' => parse_records(&self.extension(size)?, &mut extensions)?,
                b'g' => drop(self.extension(size)?),
                b'L' => extensions.path = Some(until_nul(&self.extension(size)?).to_vec()),
                b'K' => extensions.link = Some(until_nul(&self.extension(size)?).to_vec()),
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
    }

    /// Reads data of the present entry; 0 at its end.
    pub fn read_data(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        if want == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut out[..want])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }

    /// Reads what follows the last entry, a part at a time; false when nothing is left.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut buffer = [0u8; 8192];
        let count = self.input.read(&mut buffer)?;
        self.raw.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        // Whoever wants data has read it by now: what is left belongs to an entry without use for any (a whiteout).
        if self.left > EXTENSION_MAX {
            return Err(TarError::ExtensionTooLarge(self.left));
        }
        let skipped = usize::try_from(std::mem::take(&mut self.left)).unwrap_or(0);
        let start = self.raw.len();
        self.raw.resize(start + skipped, 0);
        self.input.read_exact(&mut self.raw[start..])?;
        // An archive may end with the data of its last entry: Docker's client sends such when it puts a Dockerfile into a context.
        // One that ends a little later was cut.
        let padding = std::mem::take(&mut self.padding);
        match self.input.by_ref().take(padding as u64).read_to_end(&mut self.raw)? {
            0 => Ok(()),
            all if all == padding => Ok(()),
            _ => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
        }
    }

    /// A header block that isn't zero; `None` at two blocks of zeros or at the end of the stream. One block of zeros with something
    /// behind it is refused, as Go does: what one reader sees there another one doesn't.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        for round in 0..2 {
            let mut block = [0u8; BLOCK];
            match read_block(&mut self.input, &mut block)? {
                0 => return Ok(None),
                BLOCK => self.raw.extend_from_slice(&block),
                _ => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            }
            if block.iter().any(|byte| *byte != 0) {
                return if round == 0 && sum_is_right(&block) { Ok(Some(block)) } else { Err(TarError::Header) };
            }
        }
        Ok(None)
    }

    fn extension(&mut self, size: i64) -> Result<Vec<u8>, TarError> {
        let size = u64::try_from(size).map_err(|_| TarError::Header)?;
        if size > EXTENSION_MAX {
            return Err(TarError::ExtensionTooLarge(size));
        }
        let length = usize::try_from(size).unwrap_or(0);
        let start = self.raw.len();
        self.raw.resize(start + length + padding_of(size), 0);
        self.input.read_exact(&mut self.raw[start..])?;
        Ok(self.raw[start..start + length].to_vec())
    }

    fn entry(&mut self, header: &[u8; BLOCK], extensions: Extensions) -> Result<Entry, TarError> {
        let magic = &header[257..265];
        let gnu = magic == b"ustar  \0";
        let mut path = until_nul(&header[..100]).to_vec();
        if magic.starts_with(b"ustar\0") && header[345] != 0 {
            let prefix = until_nul(&header[345..500]);
            path = [prefix, b"/", &path].concat();
        }
        let path = extensions.sparse.name.clone().or(extensions.path).unwrap_or(path);
        let kind = match header[156] {
            // The oldest archives have no type for directories.
            0 if path.ends_with(b"/") => Kind::Dir,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            other => return Err(TarError::Type(other)),
        };
        let size = match extensions.size {
            Some(size) => size,
            None => u64::try_from(number(&header[124..136])?).map_err(|_| TarError::Header)?,
        };
        // Only what is or was written as a file has data behind it, whatever the size field of a link or a directory says.
        self.left = if kind == Kind::File || header[156] == 0 { size } else { 0 };
        self.padding = padding_of(self.left);
        let mut entry = Entry {
            path,
            kind,
            link: extensions.link.unwrap_or_else(|| until_nul(&header[157..257]).to_vec()),
            stored: if kind == Kind::File { size } else { 0 },
            size: if kind == Kind::File { size } else { 0 },
            pieces: None,
            mode: u32::try_from(number(&header[100..108])? & 0o7777).unwrap_or(0),
            uid: id(extensions.uid, &header[108..116])?,
            gid: id(extensions.gid, &header[116..124])?,
            mtime: match extensions.mtime {
                Some(time) => time,
                None => (number(&header[136..148])?, 0),
            },
            device: (id(None, &header[329..337])?, id(None, &header[337..345])?),
            xattrs: extensions.xattrs,
        };
        if header[156] == b'S' && gnu {
            self.old_gnu_sparse(header, &mut entry)?;
        } else if extensions.sparse.major_one || extensions.sparse.map.is_some() {
            self.pax_sparse(extensions.sparse, &mut entry)?;
        }
        if entry.uid == NOBODY || entry.gid == NOBODY {
            return Err(TarError::Record("an owner that means no change of owner"));
        }
        if entry.path.contains(&0) || entry.link.contains(&0) {
            return Err(TarError::Record("a name with a zero byte"));
        }
        Ok(entry)
    }

    fn old_gnu_sparse(&mut self, header: &[u8; BLOCK], entry: &mut Entry) -> Result<(), TarError> {
        let mut pieces = Vec::new();
        push_pieces(&header[386..482], &mut pieces)?;
        let mut more = header[482] != 0;
        let mut blocks = 0;
        while more {
            blocks += 1;
            if blocks > PIECES_MAX / PIECES_A_BLOCK {
                return Err(TarError::Record("sparse map"));
            }
            let mut block = [0u8; BLOCK];
            self.input.read_exact(&mut block)?;
            self.raw.extend_from_slice(&block);
            push_pieces(&block[..504], &mut pieces)?;
            more = block[504] != 0;
        }
        let size = u64::try_from(number(&header[483..495])?).map_err(|_| TarError::Header)?;
        set_pieces(entry, pieces, size)
    }

    fn pax_sparse(&mut self, sparse: Sparse, entry: &mut Entry) -> Result<(), TarError> {
        let pieces = if sparse.major_one { self.sparse_map(entry)? } else { sparse.map.unwrap_or_default() };
        set_pieces(entry, pieces, sparse.real_size.unwrap_or(entry.stored))
    }

    /// The map in front of the data (PAX sparse format 1.0): decimal numbers, one a line, padded to a block.
    fn sparse_map(&mut self, entry: &mut Entry) -> Result<Vec<(u64, u64)>, TarError> {
        let bad = TarError::Record("sparse map");
        let (mut numbers, mut text, mut wanted) = (Vec::new(), Vec::new(), None);
        while wanted.is_none_or(|wanted| numbers.len() < wanted) {
            if self.left < BLOCK as u64 {
                return Err(bad);
            }
            let mut block = [0u8; BLOCK];
            self.input.read_exact(&mut block)?;
            self.raw.extend_from_slice(&block);
            self.left -= BLOCK as u64;
            for byte in block {
                if wanted.is_some_and(|wanted| numbers.len() >= wanted) {
                    break;
                }
                match byte {
                    b'\n' => numbers.push(decimal(&std::mem::take(&mut text)).ok_or(TarError::Record("sparse map"))?),
                    _ => text.push(byte),
                }
                if text.len() > 20 || numbers.len() > 2 * PIECES_MAX {
                    return Err(bad);
                }
                if wanted.is_none() && numbers.len() == 1 {
                    let count = usize::try_from(numbers[0]).unwrap_or(usize::MAX);
                    if count > PIECES_MAX {
                        return Err(bad);
                    }
                    wanted = Some(1 + 2 * count);
                }
            }
        }
        entry.stored = self.left;
        Ok(numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Where in the input the present entry's data starts, before any of it is read.
    pub fn data_position(&mut self) -> io::Result<u64> {
        self.input.stream_position()
    }

    /// Passes over the present entry's data without reading it. Whether there is so much is not looked at.
    pub fn seek_past_data(&mut self) -> Result<(), TarError> {
        let padding = std::mem::take(&mut self.padding) as u64;
        let length = std::mem::take(&mut self.left).checked_add(padding).and_then(|length| i64::try_from(length).ok());
        Ok(self.input.seek_relative(length.ok_or(TarError::Header)?)?)
    }
}

fn set_pieces(entry: &mut Entry, pieces: Vec<(u64, u64)>, size: u64) -> Result<(), TarError> {
    let (mut end, mut sum) = (0u64, 0u64);
    for (offset, length) in &pieces {
        if *offset < end {
            return Err(TarError::Record("sparse map goes backwards"));
        }
        end = offset.checked_add(*length).ok_or(TarError::Record("sparse map"))?;
        sum += length;
    }
    if end > size || sum != entry.stored || i64::try_from(size).is_err() {
        return Err(TarError::Record("sparse map doesn't fit the data"));
    }
    (entry.pieces, entry.size) = (Some(pieces), size);
    Ok(())
}

fn push_pieces(table: &[u8], pieces: &mut Vec<(u64, u64)>) -> Result<(), TarError> {
    for row in table.chunks_exact(24) {
        if row[0] == 0 {
            break;
        }
        let field = |bytes: &[u8]| u64::try_from(number(bytes)?).map_err(|_| TarError::Header);
        pieces.push((field(&row[..12])?, field(&row[12..])?));
        if pieces.len() > PIECES_MAX {
            return Err(TarError::Record("sparse map"));
        }
    }
    Ok(())
}

fn parse_records(mut records: &[u8], out: &mut Extensions) -> Result<(), TarError> {
    let bad = || TarError::Record("PAX record");
    while !records.is_empty() {
        let space = records.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
        let length = decimal(&records[..space]).and_then(|length| usize::try_from(length).ok()).ok_or_else(bad)?;
        if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
            return Err(bad());
        }
        let record = &records[space + 1..length - 1];
        records = &records[length..];
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
        apply_record(&record[..equals], &record[equals + 1..], out)?;
    }
    Ok(())
}

fn apply_record(key: &[u8], value: &[u8], out: &mut Extensions) -> Result<(), TarError> {
    let bad = || TarError::Record("number");
    let whole = || decimal(value).ok_or_else(bad);
    let small = || u32::try_from(whole()?).map_err(|_| bad());
    match key {
        b"path" => out.path = Some(value.to_vec()).filter(|path| !path.is_empty()),
        b"linkpath" => out.link = Some(value.to_vec()).filter(|path| !path.is_empty()),
        b"size" => out.size = Some(whole()?),
        b"uid" => out.uid = Some(small()?),
        b"gid" => out.gid = Some(small()?),
        b"mtime" => out.mtime = Some(time(value).ok_or_else(bad)?),
        b"GNU.sparse.major" => out.sparse.major_one = value == b"1",
        b"GNU.sparse.name" => out.sparse.name = Some(value.to_vec()),
        b"GNU.sparse.realsize" | b"GNU.sparse.size" => out.sparse.real_size = Some(whole()?),
        b"GNU.sparse.map" => {
            let numbers: Option<Vec<u64>> = value.split(|byte| *byte == b',').map(decimal).collect();
            let numbers = numbers.filter(|numbers| numbers.len() <= 2 * PIECES_MAX).ok_or_else(bad)?;
            out.sparse.map = Some(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
        }
        b"GNU.sparse.offset" => out.sparse.map.get_or_insert_default().push((whole()?, 0)),
        b"GNU.sparse.numbytes" => {
            let last = out.sparse.map.as_mut().and_then(|map| map.last_mut()).ok_or_else(bad)?;
            last.1 = whole()?;
        }
        _ => {
            if let Some(name) = key.strip_prefix(XATTR_RECORD) {
                out.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

/// `seconds[.fraction]`, negative too.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let negative = value.first() == Some(&b'-');
    let value = if negative { &value[1..] } else { value };
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let mut nanoseconds = 0u32;
    for at in 0..9 {
        let digit = fraction.get(at).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        nanoseconds = nanoseconds * 10 + u32::from(digit - b'0');
    }
    Some(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A number field: octal digits, or two's complement in base 256 when the first bit is set (GNU).
fn number(field: &[u8]) -> Result<i64, TarError> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let first = if negative { i64::from(field[0]) - 256 } else { i64::from(field[0] & 0x3f) };
        return field[1..].iter().try_fold(first, |value, byte| {
            value.checked_mul(256).and_then(|value| value.checked_add(i64::from(*byte))).ok_or(TarError::Header)
        });
    }
    let text = field.iter().skip_while(|byte| **byte == b' ');
    let digits = text.take_while(|byte| !matches!(byte, 0 | b' '));
    digits.into_iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value + i64::from(digit - b'0')).ok_or(TarError::Header),
        _ => Err(TarError::Header),
    })
}

fn id(extended: Option<u32>, field: &[u8]) -> Result<u32, TarError> {
    match extended {
        Some(id) => Ok(id),
        None => u32::try_from(number(field)?).map_err(|_| TarError::Header),
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or(field)
}

fn padding_of(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}

/// The header's sum, with its own field taken as spaces; old programs summed signed bytes.
fn sum_is_right(block: &[u8; BLOCK]) -> bool {
    let bytes = || block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    number(&block[148..156]).is_ok_and(|sum| sum == unsigned || sum == signed)
}

fn read_block(input: &mut impl Read, block: &mut [u8; BLOCK]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < BLOCK {
        match input.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

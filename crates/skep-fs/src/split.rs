//! A layer's archive with the file contents taken out, and the archive made from it again.
//!
//! The record is a zstd stream of two sorts of things, in the archive's order: bytes as they were (headers, padding), and
//! references to a file of the unpacked layer with the pieces of it that the archive holds. The archive that comes out
//! is the one that went in, bit by bit, so its digest stays the layer's diff id, and no second copy of it is kept.
//!
//! A file that the same archive replaces later is moved to a directory `kept` beside the layer when that happens, and
//! found again by its number among the references.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, ResolveFlags};

use crate::rooted::{Root, resolve};

const RAW: u8 = 0;
const FILE: u8 = 1;
/// Names and raw runs longer than this are not written, so not believed either.
const LENGTH_MAX: u32 = 4 << 20;
const COMPRESSION: i32 = 1;
const BUFFER: usize = 64 * 1024;

/// Writes the record while a layer is unpacked.
pub struct SplitWriter {
    /// Buffered twice: the records are small, and so is what the compressor gives.
    out: BufWriter<zstd::Encoder<'static, BufWriter<File>>>,
    files: u64,
}

impl SplitWriter {
    /// Starts a record in an empty file.
    pub fn new(file: File) -> io::Result<Self> {
        let encoder = zstd::Encoder::new(BufWriter::new(file), COMPRESSION)?;
        Ok(SplitWriter { out: BufWriter::with_capacity(BUFFER, encoder), files: 0 })
    }

    /// Bytes as they are in the archive.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(LENGTH_MAX as usize) {
            self.out.write_all(&[RAW])?;
            self.length(part.len())?;
            self.out.write_all(part)?;
        }
        Ok(())
    }

    /// The contents of the file `path` of the layer, `pieces` of it. Returns the reference's number.
    pub fn file(&mut self, path: &[u8], pieces: &[(u64, u64)]) -> io::Result<u64> {
        self.out.write_all(&[FILE])?;
        self.length(path.len())?;
        self.out.write_all(path)?;
        self.length(pieces.len())?;
        for (offset, length) in pieces {
            self.out.write_all(&offset.to_le_bytes())?;
            self.out.write_all(&length.to_le_bytes())?;
        }
        self.files += 1;
        Ok(self.files - 1)
    }

    /// Ends the record.
    pub fn finish(self) -> io::Result<()> {
        let encoder = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        encoder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(())
    }

    fn length(&mut self, length: usize) -> io::Result<()> {
        let length = u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.out.write_all(&length.to_le_bytes())
    }
}

/// The archive of a layer, made again from its record and its files.
pub struct SplitReader {
    input: zstd::Decoder<'static, BufReader<File>>,
    root: Root,
    kept: Option<Root>,
    moved: HashMap<u64, PathBuf>,
    files: u64,
    raw_left: u32,
    current: Option<(File, Vec<(u64, u64)>)>,
}

impl SplitReader {
    /// Reads the record `file` of the layer unpacked at `root`. `moved` tells which references are found in `kept`.
    pub fn new(file: File, root: Root, kept: Option<Root>, moved: HashMap<u64, PathBuf>) -> io::Result<Self> {
        let input = zstd::Decoder::new(file)?;
        Ok(SplitReader { input, root, kept, moved, files: 0, raw_left: 0, current: None })
    }

    /// Goes to the next record; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        let mut tag = [0u8];
        if self.input.read(&mut tag)? == 0 {
            return Ok(false);
        }
        let length = self.number()?;
        if tag[0] == RAW {
            self.raw_left = length;
            return Ok(true);
        }
        let mut path = vec![0; length as usize];
        self.input.read_exact(&mut path)?;
        let mut pieces = Vec::new();
        for _ in 0..self.number()? {
            let mut pair = [0u8; 16];
            self.input.read_exact(&mut pair)?;
            let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| pair[at + i]));
            pieces.push((half(0), half(8)));
        }
        pieces.reverse();
        self.current = Some((self.open(&path)?, pieces));
        self.files += 1;
        Ok(true)
    }

    fn open(&self, path: &[u8]) -> io::Result<File> {
        use std::os::unix::ffi::OsStrExt;
        let (root, path) = match (self.moved.get(&self.files), &self.kept) {
            (Some(path), Some(kept)) => (kept, path.as_path()),
            _ => (&self.root, Path::new(std::ffi::OsStr::from_bytes(path))),
        };
        use std::os::fd::AsFd;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(File::from(resolve(root.as_fd(), path, flags, 0, how)?))
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0u8; 4];
        self.input.read_exact(&mut bytes)?;
        match u32::from_le_bytes(bytes) {
            length if length <= LENGTH_MAX => Ok(length),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Read for SplitReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if self.raw_left > 0 {
                let want = out.len().min(self.raw_left as usize);
                let count = self.input.read(&mut out[..want])?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.raw_left -= u32::try_from(count).unwrap_or(self.raw_left);
                return Ok(count);
            }
            if let Some((file, pieces)) = &mut self.current {
                match pieces.last_mut() {
                    None => self.current = None,
                    Some((_, 0)) => drop(pieces.pop()),
                    Some((offset, length)) => {
                        let want = usize::try_from(*length).unwrap_or(usize::MAX).min(out.len());
                        let count = file.read_at(&mut out[..want], *offset)?;
                        if count == 0 {
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                        *offset += count as u64;
                        *length -= count as u64;
                        return Ok(count);
                    }
                }
                continue;
            }
            if !self.advance()? {
                return Ok(0);
            }
        }
    }
}

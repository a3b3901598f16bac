//! The file of a log and its older brothers.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::protocol::LogConfig;

/// A log file that is rotated by size.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// How many bytes of whole entries there are.
    size: u64,
    max_size: u64,
    max_files: u32,
}

impl LogFile {
    pub(super) fn open(config: &LogConfig) -> io::Result<Self> {
        let file = open(&config.path)?;
        let size = file.metadata()?.len();
        Ok(LogFile {
            path: config.path.clone(),
            file,
            size,
            max_size: config.max_size.unwrap_or(u64::MAX),
            max_files: config.max_files.max(1),
        })
    }

    /// Whether the file would be full with so many further bytes.
    pub(super) fn is_full_with(&self, bytes: usize) -> bool {
        self.size.saturating_add(bytes as u64) >= self.max_size
    }

    /// Appends whole entries, each ending with a line feed. On an error, says how many bytes of whole entries are there.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => return Err((self.keep_whole(&bytes[..written]), io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err((self.keep_whole(&bytes[..written]), e)),
            }
        }
        self.size += written as u64;
        Ok(())
    }

    /// Cuts off the entry of which only a part could be written: readers must never see half an entry.
    fn keep_whole(&mut self, written: &[u8]) -> usize {
        let whole = written.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        self.size += whole as u64;
        let _ = self.file.set_len(self.size);
        whole
    }

    /// Begins a new file if this one is full. On an error, this one goes on.
    pub(super) fn rotate_if_full(&mut self) -> io::Result<()> {
        if self.size < self.max_size {
            return Ok(());
        }
        if self.max_files == 1 {
            self.file.set_len(0)?;
            self.size = 0;
            return Ok(());
        }
        // The oldest goes by being renamed over, in either of its forms.
        let oldest = self.max_files - 1;
        for number in (1..oldest).rev() {
            self.shift(number)?;
        }
        remove(&numbered(&self.path, 1, ".gz"))?;
        fs::rename(&self.path, numbered(&self.path, 1, ""))?;
        self.file = open(&self.path)?;
        self.size = 0;
        Ok(())
    }

    /// Renames file `number`, plain or compressed, to the next number.
    fn shift(&self, number: u32) -> io::Result<()> {
        for (suffix, other) in [("", ".gz"), (".gz", "")] {
            match fs::rename(numbered(&self.path, number, suffix), numbered(&self.path, number + 1, suffix)) {
                Ok(()) => remove(&numbered(&self.path, number + 1, other))?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// A file that has no room.
    #[cfg(test)]
    pub(super) fn full() -> Self {
        let path = PathBuf::from("/dev/full");
        let file = OpenOptions::new().append(true).open(&path).expect("/dev/full");
        LogFile { path, file, size: 0, max_size: u64::MAX, max_files: 1 }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn numbered(path: &Path, number: u32, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}{suffix}"));
    PathBuf::from(name)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

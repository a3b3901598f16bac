//! An archive on its way to disk with another name for its topmost entry.

use std::io::{self, Read};

use skep_fs::tar::{Entry, Kind, Reader, Writer};

const BLOCK: u64 = 512;
const PIECE: usize = 64 * 1024;

/// What happens to the entries of an archive.
pub(crate) struct Rebase {
    /// The new name of the topmost component; None leaves names alone.
    pub(crate) name: Option<String>,
    /// The archive holds a directory's content below `.`: the new name goes in front instead of in place of one.
    pub(crate) in_front: bool,
    /// Keep extended attributes, which only root may set.
    pub(crate) attributes: bool,
}

impl Rebase {
    fn apply(&self, entry: &mut Entry) {
        if let Some(name) = &self.name {
            entry.path = self.rename(&entry.path, name.as_bytes());
            if entry.kind == Kind::HardLink {
                entry.link = self.rename(&entry.link, name.as_bytes());
            }
        }
        if !self.attributes {
            entry.xattrs.clear();
        }
    }

    fn rename(&self, path: &[u8], name: &[u8]) -> Vec<u8> {
        let mut parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        if !self.in_front {
            parts.next();
        }
        let mut renamed = name.to_vec();
        for part in parts {
            renamed.push(b'/');
            renamed.extend_from_slice(part);
        }
        renamed
    }
}

/// The archive read from `archive`, changed as [`Rebase`] says.
pub(crate) struct Rebased<R> {
    reader: Reader<R>,
    rebase: Rebase,
    buffer: Vec<u8>,
    /// How much of the buffer was handed out.
    given: usize,
    /// Bytes of the present entry's data that are still to come, and the padding behind them.
    data: u64,
    padding: usize,
    finished: bool,
}

impl<R: Read> Rebased<R> {
    pub(crate) fn new(archive: R, rebase: Rebase) -> Self {
        let reader = Reader::new(archive);
        Rebased { reader, rebase, buffer: Vec::new(), given: 0, data: 0, padding: 0, finished: false }
    }

    fn refill(&mut self) -> io::Result<()> {
        self.buffer.clear();
        self.given = 0;
        if self.data > 0 {
            let length = usize::try_from(self.data).unwrap_or(PIECE).min(PIECE);
            self.buffer.resize(length, 0);
            let count = self.reader.read_data(&mut self.buffer)?;
            self.buffer.truncate(count);
            self.data -= count as u64;
        } else if self.padding > 0 {
            self.buffer.resize(std::mem::take(&mut self.padding), 0);
        } else if !self.finished {
            self.next_entry()?;
        }
        Ok(())
    }

    fn next_entry(&mut self) -> io::Result<()> {
        let entry = self.reader.next_entry().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
        self.reader.take_raw();
        let Some(mut entry) = entry else {
            Writer::new(&mut self.buffer).finish()?;
            self.finished = true;
            return Ok(());
        };
        if entry.pieces.is_some() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "an archive with sparse entries cannot be renamed"));
        }
        self.rebase.apply(&mut entry);
        Writer::new(&mut self.buffer).entry(&entry, None)?;
        if entry.kind == Kind::File {
            self.data = entry.size;
            self.padding = usize::try_from(entry.size.next_multiple_of(BLOCK) - entry.size).unwrap_or(0);
        }
        Ok(())
    }
}

impl<R: Read> Read for Rebased<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.buffer.len() && !(self.finished && self.given > 0) {
            self.refill()?;
        }
        let count = out.len().min(self.buffer.len() - self.given);
        out[..count].copy_from_slice(&self.buffer[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn unpacked(base: &str, rebase: Rebase) -> tempfile::TempDir {
        let source = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(source.path().join("d/sub")).expect("made");
        std::fs::write(source.path().join("d/sub/f"), vec![7u8; 70_000]).expect("written");
        std::fs::hard_link(source.path().join("d/sub/f"), source.path().join("d/g")).expect("linked");
        let root = skep_fs::Root::open(source.path()).expect("open");
        let mut archive = Vec::new();
        skep_fs::pack::write_tree(&root, Path::new("d"), base.as_ref(), &mut archive).expect("packed");
        let target = tempfile::tempdir().expect("a directory");
        let root = skep_fs::Root::open(target.path()).expect("open");
        let renamed = Rebased::new(archive.as_slice(), rebase);
        skep_fs::apply::extract(renamed, &root, Path::new("."), &Default::default()).expect("unpacked");
        target
    }

    #[test]
    fn the_topmost_entry_is_renamed() {
        let rebase = |in_front| Rebase { name: Some("new".to_owned()), in_front, attributes: true };
        for target in [unpacked("d", rebase(false)), unpacked(".", rebase(true))] {
            let file = std::fs::read(target.path().join("new/sub/f")).expect("there");
            assert_eq!(file, vec![7u8; 70_000]);
            assert_eq!(std::fs::read(target.path().join("new/g")).expect("there"), file);
        }
    }
}

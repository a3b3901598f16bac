//! A layer's archive put into its own directory, with the record from which the archive can be made again.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{CWD, FileType};
use rustix::io::Errno;

use super::{Applier, ApplyError, Limits, Target, failed, join, to_path_buf};
use crate::rooted::{Root, stat_name};
use crate::split::SplitWriter;
use crate::tar::{Reader, TarError};

/// Headers that are collected before they go to the record.
const RAW_MAX: usize = 64 * 1024;

/// Where a layer goes besides its own directory.
pub struct LayerTarget {
    split: SplitWriter,
    kept_path: PathBuf,
    kept: u64,
    /// Inode and number of each reference in the record; only looked at when something was kept.
    references: Vec<(u64, u64)>,
}

/// What applying a layer found out.
#[derive(Debug, Default)]
pub struct Applied {
    /// Bytes of file contents.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Directories that no entry describes, parents before children; the empty path is the top. They want the mode,
    /// owner and times of the same directory in the layer below.
    pub implied: Vec<PathBuf>,
    /// Whether the layer hides everything below it.
    pub opaque_root: bool,
    /// References of the record that are found below the kept directory: number and path there.
    pub moved: Vec<(u64, PathBuf)>,
}

impl LayerTarget {
    /// The record goes to `split`; files that the archive replaces go below `kept`, a directory on the same file system,
    /// made when it is needed.
    pub fn new(split: SplitWriter, kept: PathBuf) -> Self {
        LayerTarget { split, kept_path: kept, kept: 0, references: Vec::new() }
    }

    /// Moves away what the archive wants replaced.
    pub(super) fn keep(&mut self, parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        if self.kept == 0 {
            rustix::fs::mkdirat(CWD, &self.kept_path, rustix::fs::Mode::from_raw_mode(0o700))?;
        }
        let target = self.kept_path.join(self.kept.to_string());
        self.kept += 1;
        rustix::fs::renameat(parent, name, CWD, &target)
    }

    pub(super) fn record_file(
        &mut self,
        raw: Vec<u8>,
        path: &[u8],
        inode: u64,
        pieces: &[(u64, u64)],
    ) -> Result<(), ApplyError> {
        let fail = |error| failed("record", path, error);
        self.split.raw(&raw).map_err(fail)?;
        let number = self.split.file(path, pieces).map_err(fail)?;
        self.references.push((inode, number));
        Ok(())
    }

    /// Which references are in the kept directory now.
    fn moved(&self) -> Result<Vec<(u64, PathBuf)>, ApplyError> {
        let mut moved = Vec::new();
        if self.kept == 0 {
            return Ok(moved);
        }
        let numbers: HashMap<u64, u64> = self.references.iter().copied().collect();
        let fail = |error: std::io::Error| failed("look through", self.kept_path.as_os_str().as_bytes(), error);
        let root = Root::open(&self.kept_path).map_err(fail)?;
        let mut waiting = vec![Vec::new()];
        while let Some(path) = waiting.pop() {
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
            let dir = root.open_at(super::as_path(&path), flags, 0).map_err(fail)?;
            for name in crate::tree::names(&dir).map_err(fail)? {
                let stat = stat_name(&dir, &name).map_err(|error| fail(error.into()))?;
                let below = join(&path, &[name.as_bytes()]);
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => waiting.push(below),
                    FileType::RegularFile => {
                        moved.extend(numbers.get(&stat.st_ino).map(|number| (*number, to_path_buf(&below))));
                    }
                    _ => {}
                }
            }
        }
        Ok(moved)
    }
}

/// Puts a layer's archive (already decompressed) into the empty directory `root`, in overlayfs' own format.
pub fn apply_layer(
    archive: impl BufRead,
    root: &Root,
    mut target: LayerTarget,
    limits: Limits,
) -> Result<Applied, ApplyError> {
    let mut applied = Applied::default();
    let mut reader = Reader::new(archive);
    let mut applier = Applier::new(root, Vec::new(), Target::Layer(&mut target), limits);
    applier.note_dir(Vec::new(), super::DirState { implied: true, mtime: None })?;
    while let Some(entry) = reader.next_entry()? {
        applier.apply(&entry, &mut reader)?;
        // Entries without contents (directories, links) would pile up.
        if reader.raw_len() > RAW_MAX
            && let Target::Layer(target) = &mut applier.target
        {
            let raw = reader.take_raw();
            target.split.raw(&raw).map_err(|error| failed("record", &entry.path, error))?;
        }
    }
    applier.finish()?;
    applied.implied = applier.dirs.iter().filter(|(_, dir)| dir.implied).map(|(path, _)| to_path_buf(path)).collect();
    (applied.entries, applied.bytes, applied.opaque_root) = (applier.entries, applier.bytes, applier.opaque_root);
    drop(applier);
    let fail = |error| failed("record", b"the archive's end", error);
    loop {
        target.split.raw(&reader.take_raw()).map_err(fail)?;
        if !reader.drain().map_err(TarError::Io)? {
            break;
        }
    }
    applied.moved = target.moved()?;
    target.split.finish().map_err(fail)?;
    Ok(applied)
}

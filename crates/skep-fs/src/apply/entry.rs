//! Creating what one entry describes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::place::{DirComes, Room, set_opaque};
use super::{Applier, ApplyError, DirState, OpenDir, Target, clean, failed, join, steers_overlay, text, times};
use crate::rooted::{gid, uid};
use crate::tar::{Entry, Kind, Reader, TarError};

impl Applier<'_> {
    /// Creates one entry, whose data `reader` is about to give.
    pub(super) fn apply<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<(), ApplyError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(ApplyError::TooManyEntries(self.limits.entries));
        }
        self.bytes = self.bytes.saturating_add(entry.size);
        if self.bytes > self.limits.bytes {
            return Err(ApplyError::TooLarge(self.limits.bytes));
        }
        let parts = clean(&entry.path).ok_or_else(|| ApplyError::Outside(text(&entry.path)))?;
        let Some((name, above)) = parts.split_last() else { return self.top(entry) };
        if matches!(self.target, Target::Layer(_))
            && let Some(hidden) = name.strip_prefix(b".wh.")
        {
            return self.whiteout(entry, above, hidden);
        }
        self.in_dir(above, |applier, parent| match entry.kind {
            Kind::Dir => applier.dir(entry, parent, name),
            Kind::File => applier.file(entry, parent, name, reader),
            Kind::HardLink => applier.hard_link(entry, parent, name),
            Kind::Symlink | Kind::Char | Kind::Block | Kind::Fifo => applier.special(entry, parent, name),
        })
    }

    /// The entry of the top itself.
    fn top(&mut self, entry: &Entry) -> Result<(), ApplyError> {
        if entry.kind != Kind::Dir {
            return Err(ApplyError::Outside(text(&entry.path)));
        }
        if matches!(self.target, Target::Tree(_)) {
            // What is copied to keeps its own owner and mode.
            return Ok(());
        }
        let dir = crate::tree::open_dir(self.root, OsStr::new(".")).map_err(|error| failed("open", b".", error))?;
        let stat = rustix::fs::fstat(&dir).map_err(|error| failed("look at", &entry.path, error))?;
        self.describe(&dir, &stat, entry)?;
        self.note_dir(Vec::new(), DirState { implied: false, mtime: Some(entry.mtime) })
    }

    fn whiteout(&mut self, entry: &Entry, above: &[&[u8]], hidden: &[u8]) -> Result<(), ApplyError> {
        if hidden == b".wh..opq" {
            self.opaque_root |= above.is_empty();
            return self.in_dir(above, |_, parent| set_opaque(&parent.fd, &parent.path));
        }
        if hidden.starts_with(b".wh.") {
            // Book-keeping of aufs, which no other storage driver heeds.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(ApplyError::Whiteout(text(&entry.path)));
        }
        self.in_dir(above, |_, parent| {
            let (leaf, path) = (OsStr::from_bytes(hidden), join(&parent.path, &[hidden]));
            match rustix::fs::mknodat(&parent.fd, leaf, FileType::CharacterDevice, Mode::empty(), 0) {
                Ok(()) => Ok(()),
                // The layer hides what is below and has something in its place: only a directory shines through.
                Err(Errno::EXIST) => match crate::tree::open_dir(&parent.fd, leaf) {
                    Ok(dir) => set_opaque(&dir, &path),
                    Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                    Err(error) => Err(failed("open", &path, error)),
                },
                Err(error) => Err(failed("make whiteout", &path, error)),
            }
        })
    }

    fn dir(&mut self, entry: &Entry, parent: &OpenDir, name: &[u8]) -> Result<(), ApplyError> {
        let (leaf, path) = (OsStr::from_bytes(name), join(&parent.path, &[name]));
        let mut room = Room::Made;
        let mode = self.first_mode(entry, 0o700);
        let made = rustix::fs::mkdirat(&parent.fd, leaf, mode);
        if made == Err(Errno::EXIST) {
            room = self.make_room(parent, name, DirComes::Yes)?;
            if room != Room::Merge {
                rustix::fs::mkdirat(&parent.fd, leaf, mode).map_err(|error| failed("make directory", &path, error))?;
            }
        } else {
            made.map_err(|error| failed("make directory", &path, error))?;
        }
        let dir = crate::tree::open_dir(&parent.fd, leaf).map_err(|error| failed("open directory", &path, error))?;
        if room == Room::WasWhiteout {
            set_opaque(&dir, &path)?;
        }
        let stat = rustix::fs::fstat(&dir).map_err(|error| failed("look at", &entry.path, error))?;
        self.describe(&dir, &stat, entry)?;
        self.note_dir(path, DirState { implied: false, mtime: Some(entry.mtime) })
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        parent: &OpenDir,
        name: &[u8],
        reader: &mut Reader<R>,
    ) -> Result<(), ApplyError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = self.first_mode(entry, 0o600);
        let create = || rustix::fs::openat(&parent.fd, OsStr::from_bytes(name), flags, mode);
        let file = self.create(entry, parent, name, create)?;
        let path = join(&parent.path, &[name]);
        let whole = [(0, entry.stored)];
        let pieces = entry.pieces.as_deref().unwrap_or(&whole);
        let stat = rustix::fs::fstat(&file).map_err(|error| failed("look at", &path, error))?;
        let fd = if entry.size == 0 {
            file
        } else {
            let file = File::from(file);
            if let Target::Layer(layer) = &mut self.target {
                layer.record_file(reader.take_raw(), &path, stat.st_ino, pieces)?;
            }
            copy_data(&file, pieces, entry, reader)?;
            OwnedFd::from(file)
        };
        self.describe(&fd, &stat, entry)?;
        rustix::fs::futimens(&fd, &times(entry.mtime)).map_err(|error| failed("set times of", &path, error))
    }

    fn hard_link(&mut self, entry: &Entry, parent: &OpenDir, name: &[u8]) -> Result<(), ApplyError> {
        let outside = || ApplyError::LinkOutside(text(&entry.path), text(&entry.link));
        let target = clean(&entry.link).ok_or_else(outside)?;
        let Some((first, above)) = target.split_last() else { return Err(outside()) };
        let from_path = join(&self.base, above);
        let from = self.try_open(&from_path).map_err(|error| failed("link to", &entry.link, error))?;
        let same = from.path == parent.path && first == &name;
        let first = OsStr::from_bytes(first);
        // Looked at first, so that nothing is moved out of the way for a link that can't be made.
        crate::rooted::stat_name(&from.fd, first).map_err(|error| failed("link to", &entry.link, error))?;
        if same {
            return Ok(());
        }
        let create = || rustix::fs::linkat(&from.fd, first, &parent.fd, OsStr::from_bytes(name), AtFlags::empty());
        self.create(entry, parent, name, create)
    }

    fn special(&mut self, entry: &Entry, parent: &OpenDir, name: &[u8]) -> Result<(), ApplyError> {
        let leaf = OsStr::from_bytes(name);
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let mode = Mode::from_raw_mode(entry.mode);
        let create = || match entry.kind {
            Kind::Symlink => rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), &parent.fd, leaf),
            Kind::Char => rustix::fs::mknodat(&parent.fd, leaf, FileType::CharacterDevice, mode, device),
            Kind::Block => rustix::fs::mknodat(&parent.fd, leaf, FileType::BlockDevice, mode, device),
            _ => rustix::fs::mknodat(&parent.fd, leaf, FileType::Fifo, mode, 0),
        };
        self.create(entry, parent, name, create)?;
        let fail = |error: Errno| failed("describe", &entry.path, error);
        let (owner, group) = self.owner(entry);
        rustix::fs::chownat(&parent.fd, leaf, Some(uid(owner)), Some(gid(group)), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(fail)?;
        for (key, value) in kept_xattrs(entry) {
            tolerate(skep_sys::xattr::set_at(&parent.fd, leaf, OsStr::from_bytes(key), value), entry)?;
        }
        if entry.kind != Kind::Symlink {
            // Through a descriptor of the thing itself: in a live container the name may be a link by now.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&parent.fd, leaf, flags, Mode::empty()).map_err(fail)?;
            use std::os::fd::AsRawFd;
            let through = format!("/proc/self/fd/{}", file.as_raw_fd());
            if FileType::from_raw_mode(rustix::fs::fstat(&file).map_err(fail)?.st_mode) != FileType::Symlink {
                rustix::fs::chmod(through, mode).map_err(fail)?;
            }
        }
        rustix::fs::utimensat(&parent.fd, leaf, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)
    }

    /// Calls `create`; when something is in the way, makes room and calls it once more.
    fn create<T>(
        &mut self,
        entry: &Entry,
        parent: &OpenDir,
        name: &[u8],
        create: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, ApplyError> {
        match create() {
            Err(Errno::EXIST) => {
                self.make_room(parent, name, DirComes::No)?;
                create()
            }
            other => other,
        }
        .map_err(|error| failed("create", &entry.path, error))
    }

    fn owner(&self, entry: &Entry) -> (u32, u32) {
        match &self.target {
            Target::Tree(options) => options.owner.unwrap_or((entry.uid, entry.gid)),
            Target::Layer(_) => (entry.uid, entry.gid),
        }
    }

    /// The mode that a thing is made with. In a layer, which nobody sees yet, it can have its own at once; special bits come later,
    /// when it has its owner.
    fn first_mode(&self, entry: &Entry, private: u32) -> Mode {
        Mode::from_raw_mode(match self.target {
            Target::Layer(_) => entry.mode & 0o777,
            Target::Tree(_) => private,
        })
    }

    /// Sets owner, attributes and mode where they are not as in `stat`, in this order: a change of owner clears set-user-id bits and
    /// capabilities, and an access control list changes the mode.
    fn describe(&self, file: &OwnedFd, stat: &Stat, entry: &Entry) -> Result<(), ApplyError> {
        let fail = |error: Errno| failed("describe", &entry.path, error);
        let (owner, group) = self.owner(entry);
        let mut mode_is_right = stat.st_mode & 0o7777 == entry.mode;
        if (stat.st_uid, stat.st_gid) != (owner, group) {
            rustix::fs::fchown(file, Some(uid(owner)), Some(gid(group))).map_err(fail)?;
            mode_is_right &= entry.mode & 0o7000 == 0;
        }
        for (key, value) in kept_xattrs(entry) {
            let flags = rustix::fs::XattrFlags::empty();
            let set = rustix::fs::fsetxattr(file.as_fd(), OsStr::from_bytes(key), value, flags);
            tolerate(set.map_err(io::Error::from), entry)?;
            mode_is_right = false;
        }
        match mode_is_right {
            true => Ok(()),
            false => rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(fail),
        }
    }
}

fn kept_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = entry.xattrs.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
    pairs.filter(|(key, _)| !steers_overlay(key))
}

/// Attributes that the file system or the kind of file doesn't allow are left out, as in Docker.
fn tolerate(set: io::Result<()>, entry: &Entry) -> Result<(), ApplyError> {
    match set.as_ref().map_err(Errno::from_io_error) {
        Ok(()) | Err(Some(Errno::OPNOTSUPP | Errno::PERM)) => Ok(()),
        Err(_) => set.map_err(|error| failed("set extended attribute of", &entry.path, error)),
    }
}

fn copy_data<R: BufRead>(
    mut file: &File,
    pieces: &[(u64, u64)],
    entry: &Entry,
    reader: &mut Reader<R>,
) -> Result<(), ApplyError> {
    let write_failed = |error: io::Error| failed("write", &entry.path, error);
    if entry.pieces.is_none() {
        loop {
            let chunk = reader.chunk(u64::MAX).map_err(TarError::Io)?;
            let count = chunk.len();
            if count == 0 {
                return Ok(());
            }
            file.write_all(chunk).map_err(write_failed)?;
            reader.consume(count);
        }
    }
    for (offset, length) in pieces {
        let (mut at, end) = (*offset, offset + length);
        while at < end {
            let chunk = reader.chunk(end - at).map_err(TarError::Io)?;
            let count = chunk.len();
            if count == 0 {
                return Err(TarError::Io(io::ErrorKind::UnexpectedEof.into()).into());
            }
            file.write_all_at(chunk, at).map_err(write_failed)?;
            reader.consume(count);
            at += count as u64;
        }
    }
    file.set_len(entry.size).map_err(write_failed)
}

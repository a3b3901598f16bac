//! Files, links and devices.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::{Packet, PacketType, Stat, SyncError, mode, order, packet};
use super::place::{apply_metadata, beneath, timestamps};
use super::{OPEN_MAX, Receiver, same};

/// A file whose content is needed.
pub(super) struct Wanted {
    number: u32,
    stat: Stat,
}

/// A file whose content is coming.
pub(super) struct Open {
    stat: Stat,
    file: std::fs::File,
}

/// A hard link.
pub(super) struct Link {
    path: String,
    target: String,
}

impl Receiver<'_> {
    /// A regular file: kept, or asked for.
    pub(super) fn file(
        &mut self,
        number: u32,
        stat: Stat,
        existing: Option<rustix::fs::Stat>,
    ) -> Result<(), SyncError> {
        let Some(level) = self.levels.last_mut() else { return Err(SyncError::CutShort) };
        let name = OsStr::new(order::split(&stat.path).1);
        // What is there is what was received last time only where nobody else writes: not where a result is laid over other files.
        if let Some(there) = existing
            && !self.options.merge
            && same::is_same(level.dir.as_fd(), name, &there, &stat)
            // Two names of one inode, which are two files for the sender.
            && (there.st_nlink == 1 || self.kept.insert((there.st_dev, there.st_ino)))
        {
            return Ok(());
        }
        level.changed = true;
        let wanted = Wanted { number, stat };
        if self.open.len() < OPEN_MAX && self.wanted.is_empty() {
            let dir = level.dir.try_clone().map_err(|error| SyncError::File {
                doing: "open",
                path: wanted.stat.path.clone(),
                source: error,
            })?;
            return self.ask_in(dir.as_fd(), wanted);
        }
        self.wanted.push_back(wanted);
        Ok(())
    }

    /// Makes the file and asks for its content.
    pub(super) fn ask(&mut self, wanted: Wanted) -> Result<(), SyncError> {
        let dir = beneath(&self.root, order::split(&wanted.stat.path).0, OFlags::PATH | OFlags::DIRECTORY)?;
        self.ask_in(dir.as_fd(), wanted)
    }

    fn ask_in(&mut self, dir: BorrowedFd<'_>, Wanted { number, stat }: Wanted) -> Result<(), SyncError> {
        let file = std::fs::File::from(create(dir, &stat.path)?);
        let open = Open { stat, file };
        if open.stat.size == 0 {
            return open.finish();
        }
        self.open.insert(number, open);
        self.reply(Packet { id: number, ..packet(PacketType::PacketReq) })
    }

    /// Some of a file's content; nothing says that it is whole.
    pub(super) fn data(&mut self, number: u32, bytes: &[u8]) -> Result<(), SyncError> {
        let unasked = || SyncError::protocol(format!("invalid file request {number}"));
        if bytes.is_empty() {
            return self.open.remove(&number).ok_or_else(unasked)?.finish();
        }
        self.received.bytes += bytes.len() as u64;
        if self.received.bytes > self.options.limits.bytes {
            return Err(SyncError::TooMuch(format!("more than {} bytes", self.options.limits.bytes)));
        }
        let open = self.open.get_mut(&number).ok_or_else(unasked)?;
        open.file.write_all(bytes).map_err(|source| SyncError::File {
            doing: "write",
            path: open.stat.path.clone(),
            source,
        })
    }

    /// A link to a file that came before; made at the end.
    pub(super) fn link(&mut self, stat: Stat) -> Result<(), SyncError> {
        let target = stat.linkname.trim_start_matches('/').to_owned();
        if !order::is_clean(&target) || order::compare(&target, &stat.path).is_ge() {
            return Err(SyncError::protocol(format!("invalid link {:?} to {:?}", stat.path, stat.linkname)));
        }
        if let Some(level) = self.levels.last_mut() {
            level.changed = true;
        }
        self.links.push(Link { path: stat.path, target });
        Ok(())
    }

    pub(super) fn make_link(&self, link: &Link) -> Result<(), SyncError> {
        let directory = OFlags::PATH | OFlags::DIRECTORY;
        let ((from, old), (to, new)) = (order::split(&link.target), order::split(&link.path));
        let (from, to) = (beneath(&self.root, from, directory)?, beneath(&self.root, to, directory)?);
        let target = rustix::fs::statat(&from, old, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(SyncError::file("link to", &link.target))?;
        if FileType::from_raw_mode(target.st_mode) != FileType::RegularFile {
            return Err(SyncError::protocol(format!(
                "{:?} is a link to {:?}, which is no file",
                link.path, link.target
            )));
        }
        match rustix::fs::statat(&to, new, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if (there.st_dev, there.st_ino) == (target.st_dev, target.st_ino) => return Ok(()),
            Ok(_) => make_room(to.as_fd(), &link.path)?,
            Err(_) => {}
        }
        rustix::fs::linkat(&from, old, &to, new, AtFlags::empty()).map_err(SyncError::file("link", &link.path))
    }

    /// A symbolic link, a device or a FIFO.
    pub(super) fn special(&mut self, stat: &Stat, existing: Option<rustix::fs::Stat>) -> Result<(), SyncError> {
        let Some(level) = self.levels.last_mut() else { return Err(SyncError::CutShort) };
        let name = OsStr::new(order::split(&stat.path).1);
        if existing.is_some_and(|there| same::is_same(level.dir.as_fd(), name, &there, stat)) {
            return Ok(());
        }
        level.changed = true;
        if existing.is_some() {
            level.remove(name)?;
        }
        let dir = level.dir.as_fd();
        match mode::file_type(stat.mode) {
            Some(FileType::Symlink) => rustix::fs::symlinkat(&*stat.linkname, dir, name),
            Some(kind) => {
                let number = match kind {
                    FileType::Fifo => 0,
                    _ => same::device(stat)
                        .ok_or_else(|| SyncError::protocol(format!("{:?} has no device number", stat.path)))?,
                };
                rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(0), number)
            }
            None => Ok(()),
        }
        .map_err(SyncError::file("make", &stat.path))?;
        finish_special(dir, name, stat).map_err(SyncError::file("set mode, owner or time of", &stat.path))
    }
}

impl Open {
    /// All of the content is there.
    fn finish(self) -> Result<(), SyncError> {
        let file = OwnedFd::from(self.file);
        apply_metadata(&file, &self.stat, false)?;
        rustix::fs::futimens(&file, &timestamps(self.stat.mod_time))
            .map_err(SyncError::file("set time of", &self.stat.path))
    }
}

fn finish_special(dir: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.uid), rustix::fs::Gid::from_raw(stat.gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if mode::file_type(stat.mode) != Some(FileType::Symlink) {
        // It was just made here and is no link; fchmodat has no flag for that.
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(mode::permissions(stat.mode)), AtFlags::empty())?;
    }
    for (key, value) in &stat.xattrs {
        let _ = skep_sys::xattr::set_at(dir, name, OsStr::new(key), value); // as for files
    }
    rustix::fs::utimensat(dir, name, &timestamps(stat.mod_time), AtFlags::SYMLINK_NOFOLLOW)
}

/// Makes an empty file in place of whatever has its name.
fn create(dir: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, SyncError> {
    let name = order::split(path).1;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR) {
        Err(Errno::EXIST) => {
            make_room(dir, path)?;
            rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
        }
        other => other,
    }
    .map_err(SyncError::file("make", path))
}

fn make_room(dir: BorrowedFd<'_>, path: &str) -> Result<(), SyncError> {
    skep_fs::tree::remove(dir, OsStr::new(order::split(path).1)).map_err(|source| SyncError::File {
        doing: "remove",
        path: path.to_owned(),
        source,
    })
}

//! A directory tree as an archive: for `export` and `cp`, and an overlay upper directory as a layer.
//!
//! Names come in the order of their bytes, directory by directory, so that the same tree gives the same archive. The tree
//! may change meanwhile: a file that vanishes is left out, one that shrinks is filled up with zeros. Sockets are left out,
//! and mounts below the top are walked into (`cp` out of a volume), but not for a layer.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::apply::below::is_opaque;
use crate::apply::place::is_whiteout;
use crate::owners::Owners;
use crate::rooted::{Root, modified, stat_name};
use crate::tar::{Entry, Kind, Writer};
use crate::tree::{names, open_dir};

/// The attribute that holds a file's capabilities.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";

/// The deepest tree that is packed: one descriptor is held for each level.
const DEPTH_MAX: usize = 512;

/// Writes `path` of `root` and what is below it as a tar archive whose names start with `base` (`docker cp` from a
/// container); an empty `base` leaves the tree's own entry out (`docker export`). The last part of `path` isn't followed
/// when it is a symbolic link, unless the path ends in a slash or a dot.
pub fn write_tree(root: &Root, path: &Path, base: &OsStr, out: impl Write) -> io::Result<()> {
    let mut packer = Packer { owners: root.owners(), ..Packer::new(out, Form::Tree) };
    let bytes = path.as_os_str().as_bytes();
    let as_dir = bytes.is_empty() || bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b".";
    let (parent, name) = if as_dir {
        (root.open_at(path, OFlags::PATH | OFlags::DIRECTORY, 0)?, OsString::from("."))
    } else {
        root.parent(path)?
    };
    let stat = stat_name(&parent, &name)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let dir = open_dir(&parent, &name)?;
        if !base.is_empty() {
            packer.dir_entry(&dir, base.as_bytes())?;
        }
        packer.children(&dir, base.as_bytes(), 0)?;
    } else {
        packer.other(&parent, &name, base.as_bytes(), &stat)?;
    }
    packer.sink.finish()?;
    Ok(())
}

/// Tells by a path (relative, without a slash at the end) whether it is written.
pub type Wanted<'a> = &'a dyn Fn(&[u8]) -> bool;

/// Writes an overlay upper directory as a layer archive: whiteouts as `.wh.` files, opaque directories with
/// `.wh..wh..opq`. What is below a path that isn't `wanted` is left out with it.
pub fn write_layer(upper: &Root, wanted: Wanted<'_>, out: impl Write) -> io::Result<()> {
    let mut packer = Packer { wanted: Some(wanted), ..Packer::new(out, Form::Layer) };
    packer.children(&open_dir(upper, OsStr::new("."))?, b"", 0)?;
    packer.sink.finish()?;
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Tree,
    Layer,
}

/// Where entries go.
pub(crate) trait Sink {
    /// An entry without contents.
    fn entry(&mut self, entry: &Entry) -> io::Result<()>;
    /// A regular file, with what was opened.
    fn file(&mut self, entry: &Entry, contents: File) -> io::Result<()>;
}

impl<W: Write> Sink for Writer<W> {
    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        Writer::entry(self, entry, None)
    }

    fn file(&mut self, entry: &Entry, mut contents: File) -> io::Result<()> {
        Writer::entry(self, entry, Some(&mut contents as &mut dyn Read))
    }
}

/// Walks an overlay upper directory and gives `sink` the entries of its layer. `means` tells of an opaque directory, by its path,
/// whether there is anything to hide.
pub(crate) fn walk_layer(upper: &Root, sink: impl Sink, means: Hides<'_>) -> io::Result<()> {
    let mut packer = Packer { hides: Some(means), ..Packer::into(sink, Form::Layer) };
    packer.children(&open_dir(upper, OsStr::new("."))?, b"", 0)
}

/// Tells by the path of an opaque directory whether it hides anything.
pub(crate) type Hides<'a> = &'a dyn Fn(&[u8]) -> io::Result<bool>;

struct Packer<'a, S> {
    sink: S,
    form: Form,
    /// Which paths are written; all without it.
    wanted: Option<Wanted<'a>>,
    /// Which opaque directories are marked; all without it.
    hides: Option<Hides<'a>>,
    /// Whose files are whose.
    owners: Option<&'a Owners>,
    /// First name of each file that has several.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packer<'_, Writer<W>> {
    fn new(out: W, form: Form) -> Self {
        Packer::into(Writer::new(out), form)
    }
}

impl<S: Sink> Packer<'_, S> {
    fn into(sink: S, form: Form) -> Self {
        Packer { sink, form, wanted: None, hides: None, owners: None, linked: HashMap::new() }
    }

    fn children(&mut self, dir: &OwnedFd, prefix: &[u8], depth: usize) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        for name in names(dir)? {
            let mut path = prefix.to_vec();
            if !path.is_empty() && !path.ends_with(b"/") {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            if self.wanted.is_some_and(|wanted| !wanted(&path)) {
                continue;
            }
            let stat = match stat_name(dir, &name) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => match open_dir(dir, &name) {
                    Ok(child) => {
                        self.dir_entry(&child, &path)?;
                        self.children(&child, &path, depth + 1)?;
                    }
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                    Err(error) => return Err(error.into()),
                },
                FileType::CharacterDevice if self.form == Form::Layer && is_whiteout(&stat) => {
                    self.mark(&path, name.as_bytes(), b".wh.")?;
                }
                _ => self.other(dir, &name, &path, &stat)?,
            }
        }
        Ok(())
    }

    /// Says who owns an entry.
    fn own(&self, entry: &mut Entry) {
        let Some(owners) = self.owners else { return };
        (entry.uid, entry.gid) = owners.inside((entry.uid, entry.gid));
        for (_, value) in entry.xattrs.iter_mut().filter(|(key, _)| key == CAPABILITY) {
            owners.capability_inside(value);
        }
    }

    /// An empty file whose name says that another is gone.
    fn mark(&mut self, path: &[u8], name: &[u8], mark: &[u8]) -> io::Result<()> {
        let path = [&path[..path.len() - name.len()], mark, name].concat();
        self.sink.entry(&Entry { path, mode: 0, ..empty(Kind::File) })
    }

    fn dir_entry(&mut self, dir: &OwnedFd, path: &[u8]) -> io::Result<()> {
        let stat = rustix::fs::fstat(dir)?;
        let mut named = path.to_vec();
        named.push(b'/');
        let mut entry = described(named.clone(), Kind::Dir, &stat);
        entry.xattrs = kept_xattrs(dir, OsStr::new(""))?;
        self.own(&mut entry);
        self.sink.entry(&entry)?;
        if self.form == Form::Layer && is_opaque(dir)? && self.hides.map_or(Ok(true), |hides| hides(path))? {
            self.mark(&named, b"", b".wh..wh..opq")?;
        }
        Ok(())
    }

    /// Anything but a directory.
    fn other(&mut self, dir: &OwnedFd, name: &OsStr, path: &[u8], stat: &Stat) -> io::Result<()> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Symlink,
            FileType::CharacterDevice => Kind::Char,
            FileType::BlockDevice => Kind::Block,
            FileType::Fifo => Kind::Fifo,
            _ => return Ok(()),
        };
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                let entry = Entry { link: first.clone(), ..described(path.to_vec(), Kind::HardLink, stat) };
                let mut entry = Entry { size: 0, stored: 0, ..entry };
                self.own(&mut entry);
                return self.sink.entry(&entry);
            }
            self.linked.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        if kind == Kind::File {
            return self.file(dir, name, path);
        }
        let mut entry = described(path.to_vec(), kind, stat);
        if kind == Kind::Symlink {
            entry.link = match rustix::fs::readlinkat(dir, name, Vec::new()) {
                Ok(target) => target.into_bytes(),
                Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
        }
        entry.xattrs = kept_xattrs(dir, name)?;
        self.own(&mut entry);
        self.sink.entry(&entry)
    }

    fn file(&mut self, dir: &OwnedFd, name: &OsStr, path: &[u8]) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // What was opened counts: the name may have come to mean something else since it was looked at.
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let mut entry = described(path.to_vec(), Kind::File, &stat);
        entry.xattrs = kept_xattrs(dir, name)?;
        self.own(&mut entry);
        self.sink.file(&entry, File::from(fd))
    }
}

pub(crate) fn empty(kind: Kind) -> Entry {
    Entry {
        path: Vec::new(),
        kind,
        link: Vec::new(),
        stored: 0,
        size: 0,
        pieces: None,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        device: (0, 0),
        xattrs: Vec::new(),
    }
}

pub(crate) fn described(path: Vec<u8>, kind: Kind, stat: &Stat) -> Entry {
    let size = if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
    Entry {
        path,
        stored: size,
        size,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: modified(stat),
        device: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
        ..empty(kind)
    }
}

/// The attributes that belong to a file wherever it is: capabilities and what users set.
pub(crate) fn kept_xattrs(dir: impl AsFd, name: &OsStr) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut kept = Vec::new();
    for key in skep_sys::xattr::list_at(&dir, name)? {
        let key = key.to_bytes();
        let belongs = key == CAPABILITY || (key.starts_with(b"user.") && !key.starts_with(b"user.overlay."));
        if belongs && let Some(value) = skep_sys::xattr::get_at(&dir, name, OsStr::from_bytes(key))? {
            kept.push((key.to_vec(), value));
        }
    }
    Ok(kept)
}

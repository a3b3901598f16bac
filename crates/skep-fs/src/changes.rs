//! What a container changed, for `docker diff`.
//!
//! The upper directory is walked in the order of names. A whiteout is a deletion; what the layers below have too is a
//! modification; else it is an addition. A directory that differs in nothing and only leads to a change is listed as
//! modified before that change, as Docker does, and left out when nothing changed below it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::apply::below::is_opaque;
use crate::apply::place::is_whiteout;
use crate::apply::{Below, below};
use crate::rooted::{Root, modified, stat_name};
use crate::tree::{names, open_dir};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// `C`, 0 in the API.
    Modified,
    /// `A`, 1 in the API.
    Added,
    /// `D`, 2 in the API.
    Deleted,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute path inside the container.
    pub path: PathBuf,
    /// What happened.
    pub kind: ChangeKind,
}

/// The changes that `upper` makes to the stack `lower` (topmost first), in the order in which Docker lists them.
pub fn changes(upper: &Root, lower: &[Root]) -> io::Result<Vec<Change>> {
    let mut out = Vec::new();
    walk(&open_dir(upper, OsStr::new("."))?, Path::new(""), lower, &mut out)?;
    Ok(out)
}

fn walk(dir: &OwnedFd, path: &Path, lower: &[Root], out: &mut Vec<Change>) -> io::Result<()> {
    let mut here = names(dir)?;
    if !lower.is_empty() && is_opaque(dir)? {
        here.extend(hidden_by_opaque(dir, path, lower)?);
        here.sort();
    }
    for name in here {
        let below_path = path.join(&name);
        let push = |out: &mut Vec<Change>, kind| out.push(Change { path: Path::new("/").join(&below_path), kind });
        let stat = match stat_name(dir, &name) {
            Ok(stat) => stat,
            // Only the layers below have it, and the directory is opaque.
            Err(Errno::NOENT) => {
                push(out, ChangeKind::Deleted);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let before = below(lower, &below_path)?;
        if is_whiteout(&stat) {
            if !matches!(before, Below::Nothing) {
                push(out, ChangeKind::Deleted);
            }
            continue;
        }
        let position = out.len();
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_dir {
            match open_dir(dir, &name) {
                Ok(child) => walk(&child, &below_path, dirs_below(lower, &before), out)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let kind = match &before {
            Below::Nothing => ChangeKind::Added,
            Below::Dir(old) if is_dir && out.len() == position && same(&rustix::fs::fstat(old)?, &stat) => continue,
            _ => ChangeKind::Modified,
        };
        out.insert(position, Change { path: Path::new("/").join(&below_path), kind });
    }
    Ok(())
}

/// The layers to look at below a directory: none, when they have nothing or no directory there.
fn dirs_below<'a>(lower: &'a [Root], before: &Below) -> &'a [Root] {
    if matches!(before, Below::Dir(_)) { lower } else { &[] }
}

/// The names that the layers below have in an opaque directory and the directory itself doesn't.
fn hidden_by_opaque(dir: &OwnedFd, path: &Path, lower: &[Root]) -> io::Result<Vec<std::ffi::OsString>> {
    let mut hidden = std::collections::BTreeSet::new();
    for layer in lower {
        let how = rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS;
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        use std::os::fd::AsFd;
        let Ok(old) = crate::rooted::resolve(layer.as_fd(), path, flags, 0, how) else { continue };
        for name in names(&old)? {
            let gone = matches!(below(lower, &path.join(&name))?, Below::Nothing);
            if !gone && matches!(stat_name(dir, &name), Err(Errno::NOENT)) {
                hidden.insert(name);
            }
        }
    }
    Ok(hidden.into_iter().collect())
}

fn same(old: &Stat, new: &Stat) -> bool {
    (old.st_mode, old.st_uid, old.st_gid, modified(old)) == (new.st_mode, new.st_uid, new.st_gid, modified(new))
}

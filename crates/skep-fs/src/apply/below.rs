//! Looking a path up in a stack of layers as overlayfs would, without mounting it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::OPAQUE;
use super::place::is_whiteout;
use crate::rooted::{Root, stat_name};
use crate::tree::open_dir;

/// What a stack of layers has at a path.
#[derive(Debug)]
pub enum Below {
    /// Nothing.
    Nothing,
    /// A directory; this is the topmost layer's, whose metadata counts.
    Dir(OwnedFd),
    /// Something else.
    Other(Stat),
}

/// What the stack `lower` (topmost first) has at `path`, a real path without links.
pub fn below(lower: &[Root], path: &Path) -> io::Result<Below> {
    for layer in lower {
        match within(layer, path)? {
            Found::Here(found) => return Ok(found),
            Found::Hidden => return Ok(Below::Nothing),
            Found::Deeper => {}
        }
    }
    Ok(Below::Nothing)
}

enum Found {
    Here(Below),
    /// This layer hides what those below have.
    Hidden,
    /// This layer says nothing about the path.
    Deeper,
}

fn within(layer: &Root, path: &Path) -> io::Result<Found> {
    let mut dir = open_dir(layer.as_fd(), OsStr::new("."))?;
    let mut opaque = false;
    let mut names = path.iter().peekable();
    while let Some(name) = names.next() {
        let stat = match stat_name(&dir, name) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(if opaque { Found::Hidden } else { Found::Deeper }),
            Err(error) => return Err(error.into()),
        };
        if is_whiteout(&stat) {
            return Ok(Found::Hidden);
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(if names.peek().is_none() { Found::Here(Below::Other(stat)) } else { Found::Hidden });
        }
        dir = open_dir(&dir, name)?;
        opaque |= is_opaque(&dir)?;
    }
    Ok(Found::Here(Below::Dir(dir)))
}

/// Whether a directory hides the same directory of lower layers.
pub fn is_opaque(dir: &OwnedFd) -> io::Result<bool> {
    Ok(skep_sys::xattr::get_at(dir, OsStr::new(""), OsStr::new(OPAQUE))?.as_deref() == Some(b"y"))
}

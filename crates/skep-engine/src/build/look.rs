//! Looking at files of results and of steps that failed, without a container.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};
use skep_build::BuildError;
use skep_build::error::Written;
use skep_build::worker::Tree;
use skep_dockerfile::glob::{Glob, Stars};
use skep_fs::Root;
use skep_store::UpperDir;
use skep_types::ErrorKind;

use super::error::{blocking, failed};
use super::paths::locate;
use super::{empty_directory, tree};
use crate::engine::Inner;

/// Names of one directory that are listed at most.
const MOST: usize = 1 << 16;
/// Attributes of overlayfs itself.
const OVERLAY: &[u8] = b"trusted.overlay.";

/// Files that can be looked at.
#[derive(Debug, Clone)]
pub struct Files {
    /// Layers, or a directory of the engine.
    pub tree: Tree,
    /// What a step that failed wrote on top of them.
    pub written: Option<Written>,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStat {
    /// Its name, without the directories above it.
    pub name: String,
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Bytes; 0 of a directory.
    pub size: u64,
    /// When it was changed, in nanoseconds since 1970.
    pub modified: i64,
    /// Where a symbolic link leads.
    pub target: String,
    /// The numbers of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub attributes: Vec<(String, Vec<u8>)>,
}

fn open(engine: &Inner, files: &Files) -> Result<Root, BuildError> {
    let layers = engine.storage.store().layers();
    let empty = empty_directory(engine)?;
    let written = files.written.as_ref().and_then(|written| written.0.downcast_ref::<UpperDir>());
    match (written, &files.tree) {
        (Some(written), Tree::Layers(stack)) => {
            let below = tree::directories(layers, *stack)?;
            let all: Vec<PathBuf> = std::iter::once(written.path()).chain(below).collect();
            tree::merged(&all, &empty)
        }
        _ => tree::open(layers, &files.tree, &empty),
    }
}

/// BuildKit's words for a file that can't be looked at.
fn missing(doing: &'static str, path: &str) -> impl FnOnce(std::io::Error) -> BuildError {
    let path = path.to_owned();
    move |error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            BuildError::new(ErrorKind::NotFound, format!("{doing} {path}: no such file or directory"))
        }
        _ => failed(&path)(error),
    }
}

/// The first `limit` bytes of a file.
pub(super) async fn read(engine: &Arc<Inner>, files: &Files, path: &str, limit: u64) -> Result<Vec<u8>, BuildError> {
    let (engine, files, path) = (Arc::clone(engine), files.clone(), path.to_owned());
    blocking(move || {
        let root = open(&engine, &files)?;
        root.read_file(Path::new(&path), limit).map_err(missing("open", &path))
    })
    .await
}

/// What a path leads to; links are followed inside the tree.
pub(super) async fn stat(engine: &Arc<Inner>, files: &Files, path: &str) -> Result<FileStat, BuildError> {
    let (engine, files, path) = (Arc::clone(engine), files.clone(), path.to_owned());
    blocking(move || {
        let root = open(&engine, &files)?;
        let found = locate(&root, Path::new(&path)).map_err(missing("lstat", &path))?;
        let stat = found.stat.ok_or_else(|| missing("lstat", &path)(std::io::ErrorKind::NotFound.into()))?;
        let (dir, name) = root.parent(&found.real).map_err(missing("lstat", &path))?;
        describe(&dir, &name, &stat).map_err(missing("lstat", &path))
    })
    .await
}

/// What is in a directory, by name; only names that fit `pattern`, if there is one.
pub(super) async fn list(
    engine: &Arc<Inner>,
    files: &Files,
    path: &str,
    pattern: &str,
) -> Result<Vec<FileStat>, BuildError> {
    let (engine, files, path, pattern) = (Arc::clone(engine), files.clone(), path.to_owned(), pattern.to_owned());
    blocking(move || {
        let glob = match pattern.as_str() {
            "" => None,
            text => Some(Glob::new(text, Stars::Plain).map_err(|error| BuildError::invalid(error.to_string()))?),
        };
        let root = open(&engine, &files)?;
        let dir = root.open_at(Path::new(&path), OFlags::RDONLY | OFlags::DIRECTORY, 0);
        let dir = dir.map_err(missing("open", &path))?;
        let names = names(&dir).map_err(missing("open", &path))?;
        let fits = |name: &&OsString| glob.as_ref().is_none_or(|glob| glob.matches(&name.to_string_lossy()));
        let entry = |name: &OsString| {
            let stat = rustix::fs::statat(&dir, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)?;
            describe(&dir, name, &stat)
        };
        let all: std::io::Result<Vec<FileStat>> = names.iter().filter(fits).map(entry).collect();
        all.map_err(missing("open", &path))
    })
    .await
}

fn names(dir: &rustix::fd::OwnedFd) -> std::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name == b"." || name == b".." {
            continue;
        }
        if names.len() == MOST {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "the directory has too many names"));
        }
        names.push(OsString::from_vec(name));
    }
    names.sort_unstable();
    Ok(names)
}

fn describe(dir: &rustix::fd::OwnedFd, name: &OsStr, stat: &Stat) -> std::io::Result<FileStat> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let target = match kind {
        FileType::Symlink => rustix::fs::readlinkat(dir, name, Vec::new())?.to_string_lossy().into_owned(),
        _ => String::new(),
    };
    let mut attributes = Vec::new();
    if matches!(kind, FileType::RegularFile | FileType::Directory) {
        for key in skep_sys::xattr::list_at(dir, name).unwrap_or_default() {
            let value = skep_sys::xattr::get_at(dir, name, OsStr::from_bytes(key.to_bytes()));
            if let (false, Ok(Some(value))) = (key.to_bytes().starts_with(OVERLAY), value) {
                attributes.push((key.to_string_lossy().into_owned(), value));
            }
        }
    }
    Ok(FileStat {
        name: name.to_string_lossy().into_owned(),
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if kind == FileType::Directory { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) },
        modified: stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec.cast_signed()),
        target,
        device: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
        attributes,
    })
}

//! `ADD` of a local archive: it is unpacked instead of copied.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use rustix::fs::OFlags;
use skep_build::BuildError;
use skep_fs::Root;
use skep_fs::apply::{ExtractOptions, Limits, extract};
use skep_fs::decode::{Bounded, Decoder};
use skep_fs::tar::Reader;
use skep_types::ErrorKind;

use super::super::error::failed;
use super::owner::Owned;

/// Whether a regular file is an archive: one whose first header can be read, however it is compressed. Its name says nothing.
pub(super) fn is_archive(root: &Root, path: &Path) -> Result<bool, BuildError> {
    let Ok(decoder) = Decoder::new(open(root, path)?) else { return Ok(false) };
    Ok(matches!(Reader::new(BufReader::new(decoder)).next_entry(), Ok(Some(_))))
}

/// Unpacks an archive below the directory `dir` of `into`. Its files are those of `--chown`, or of whom the archive says.
pub(super) fn unpack(root: &Root, path: &Path, into: &Root, dir: &Path, owner: Owned) -> Result<(), BuildError> {
    let limits = Limits::default();
    let owner = match owner {
        Owned::By(uid, gid) => Some((uid, gid)),
        Owned::AsBefore => None,
    };
    let stream = Bounded::new(open(root, path)?, limits).map_err(failed("read an archive"))?;
    let options = ExtractOptions { limits, owner, ..ExtractOptions::default() };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    extract(stream, into, dir, &options).map_err(|error| {
        let kind = error.kind();
        let kind = if kind == ErrorKind::NotFound { ErrorKind::InvalidParameter } else { kind };
        BuildError::new(kind, format!("unpack {}: {error}", path.display()))
    })
}

fn open(root: &Root, path: &Path) -> Result<File, BuildError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    root.open_at(path, flags, 0).map(File::from).map_err(failed("open an archive"))
}

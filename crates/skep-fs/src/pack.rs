//! A directory tree as an archive.
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;

use crate::rooted::Root;

/// Writes `path` of `root` and what is below it as a tar archive whose names start with `base` (`docker cp` from a
/// container); an empty `base` leaves the tree's own entry out (`docker export`). The last part of `path` isn't followed.
pub fn write_tree(root: &Root, path: &Path, base: &OsStr, out: impl Write) -> io::Result<()> {
    let _ = (root, path, base, out);
    Err(io::ErrorKind::Unsupported.into())
}

/// Writes an overlay upper directory as a layer archive: whiteouts as `.wh.` files, opaque directories with
/// `.wh..wh..opq`.
pub fn write_layer(upper: &Root, out: impl Write) -> io::Result<()> {
    let _ = (upper, out);
    Err(io::ErrorKind::Unsupported.into())
}

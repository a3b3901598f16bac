//! `idmap DIRECTORY...`: whether owners of files there can be mapped, and overlays made of them.

use std::path::Path;

use skep_runtime::container::{Result, check_idmap};

use super::args::Args;
use super::words;

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<u8> {
    let directories = words(args)?;
    check_idmap(&directories.iter().map(Path::new).collect::<Vec<_>>())?;
    Ok(0)
}

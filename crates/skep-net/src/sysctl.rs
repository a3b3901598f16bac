//! Kernel settings below `/proc/sys/net`, of the calling thread's network namespace.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::NetError;

/// Writes a setting unless it has the value. Returns whether it had to be changed.
pub(crate) fn set(name: &str, value: &str) -> Result<bool, NetError> {
    let path = Path::new("/proc/sys/net").join(name);
    let wrap = |source: io::Error| NetError::File { path: path.clone(), source };
    if fs::read_to_string(&path).map_err(wrap)?.trim_end() == value {
        return Ok(false);
    }
    fs::write(&path, value).map_err(wrap)?;
    Ok(true)
}

/// As [`set`]; a kernel without the setting (IPv6 left out) is no error.
pub(crate) fn set_if_there(name: &str, value: &str) -> Result<bool, NetError> {
    match set(name, value) {
        Err(NetError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other,
    }
}

//! Extended attributes of a file named by a directory descriptor and a single name.
//!
//! The kernel has `setxattrat(2)` only since 6.13. The older way used here goes through `/proc/self/fd/N/name`: the
//! first part is a magic link to the directory that is open, the second is one name that the `l` calls don't follow.
//! Nothing but that directory can be reached, however its ancestors are renamed meanwhile.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::XattrFlags;

/// The largest value the kernel allows (`XATTR_SIZE_MAX`).
const VALUE_MAX: usize = 65536;

/// The name through which the `l*xattr` calls reach `name` in `dir`. An empty name means the directory itself.
fn through_proc(dir: impl AsFd, name: &OsStr) -> io::Result<Vec<u8>> {
    let bytes = name.as_bytes();
    if bytes.contains(&b'/') || bytes == b".." {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(if bytes.is_empty() { b"." } else { bytes });
    Ok(path)
}

/// Sets one attribute of `name` in `dir`, without following a symbolic link (`lsetxattr(2)`).
pub fn set_at(dir: impl AsFd, name: &OsStr, key: &OsStr, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(through_proc(dir, name)?, key, value, XattrFlags::empty())?)
}

/// Reads one attribute of `name` in `dir`, without following a symbolic link (`lgetxattr(2)`). `None` when it isn't
/// set, or when the file system keeps no attributes of this sort.
pub fn get_at(dir: impl AsFd, name: &OsStr, key: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let path = through_proc(dir, name)?;
    let mut short = [0u8; 256];
    match rustix::fs::lgetxattr(path.as_slice(), key, &mut short[..]) {
        Ok(length) => return Ok(Some(short[..length].to_vec())),
        Err(rustix::io::Errno::RANGE) => {}
        Err(error) => return absent(error),
    }
    let mut value = vec![0u8; VALUE_MAX];
    match rustix::fs::lgetxattr(path.as_slice(), key, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(error) => absent(error),
    }
}

fn absent(error: rustix::io::Errno) -> io::Result<Option<Vec<u8>>> {
    match error {
        rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP => Ok(None),
        error => Err(error.into()),
    }
}

/// Whether an open file has attributes (`flistxattr(2)`): a single call, where most files have none.
pub fn has_any(file: impl AsFd) -> io::Result<bool> {
    // No name is so short.
    match rustix::fs::flistxattr(file, &mut [0u8; 1][..]) {
        Ok(length) => Ok(length > 0),
        Err(rustix::io::Errno::RANGE) => Ok(true),
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The names of the attributes of `name` in `dir`, sorted (`llistxattr(2)`).
pub fn list_at(dir: impl AsFd, name: &OsStr) -> io::Result<Vec<CString>> {
    let path = through_proc(dir, name)?;
    let mut short = [0u8; 512];
    let mut names = match rustix::fs::llistxattr(path.as_slice(), &mut short[..]) {
        Ok(length) => split(&short[..length]),
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(rustix::io::Errno::RANGE) => {
            let mut long = vec![0u8; VALUE_MAX];
            let length = rustix::fs::llistxattr(path.as_slice(), &mut long[..])?;
            split(&long[..length])
        }
        Err(error) => return Err(error.into()),
    };
    names.sort();
    Ok(names)
}

fn split(list: &[u8]) -> Vec<CString> {
    list.split_inclusive(|byte| *byte == 0)
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok().map(CStr::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_some_or_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = std::fs::File::create(dir.path().join("file")).expect("a file");
        assert!(!has_any(&file).expect("look"));
        let top = std::fs::File::open(dir.path()).expect("open");
        set_at(&top, OsStr::new("file"), OsStr::new("trusted.x"), b"").expect("set");
        assert!(has_any(&file).expect("look"));
    }

    #[test]
    fn a_name_can_not_leave_its_directory() {
        let dir = std::fs::File::open("/").expect("/");
        for bad in ["..", "a/b", "/etc"] {
            assert!(get_at(&dir, OsStr::new(bad), OsStr::new("user.x")).is_err(), "{bad}");
        }
    }
}

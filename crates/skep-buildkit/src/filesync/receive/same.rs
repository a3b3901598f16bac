//! Whether what is there is what the sender has.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::FileType;

use super::super::{Stat, mode};

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;

/// Seconds and nanoseconds of a time on the wire, which is in nanoseconds since 1970.
pub(super) fn time(wire: i64) -> (i64, i64) {
    (wire.div_euclid(SECOND), wire.rem_euclid(SECOND))
}

/// Whether an extended attribute is kept. Those of overlayfs would steer the engine's own mounts; labels of SELinux and
/// measurements belong to the machine that they were made on.
fn is_kept(key: &str) -> bool {
    let foreign = ["trusted.", "user.overlay.", "security.selinux", "security.ima", "security.evm"];
    !foreign.iter().any(|prefix| key.starts_with(prefix))
}

/// Takes out what is never kept.
pub(super) fn clean(stat: &mut Stat) {
    stat.xattrs.retain(|key, _| is_kept(key));
}

/// Whether `there`, named `name` in `dir`, has type, mode, owner, size, time and attributes of `wanted`.
pub(super) fn is_same(dir: BorrowedFd<'_>, name: &OsStr, there: &rustix::fs::Stat, wanted: &Stat) -> bool {
    let Some(kind) = mode::file_type(wanted.mode) else { return false };
    // Links have no permissions of their own on Linux; the sender may have some.
    let mode_differs = match kind {
        FileType::Symlink => FileType::from_raw_mode(there.st_mode) != kind,
        _ => there.st_mode != kind.as_raw_mode() | mode::permissions(wanted.mode),
    };
    if mode_differs || (there.st_uid, there.st_gid) != (wanted.uid, wanted.gid) {
        return false;
    }
    if kind != FileType::Directory {
        let nanoseconds = i64::try_from(there.st_mtime_nsec).unwrap_or(0);
        if (there.st_mtime, nanoseconds) != time(wanted.mod_time) {
            return false;
        }
    }
    let content = match kind {
        FileType::RegularFile => there.st_size == wanted.size,
        FileType::Symlink => rustix::fs::readlinkat(dir, name, Vec::new())
            .is_ok_and(|target| target.as_bytes() == wanted.linkname.as_bytes()),
        FileType::CharacterDevice | FileType::BlockDevice => device(wanted) == Some(there.st_rdev),
        _ => true,
    };
    content && (kind == FileType::Symlink || has_xattrs(dir, name, &wanted.xattrs))
}

/// The number of a device; none if it can't be one.
pub(super) fn device(stat: &Stat) -> Option<u64> {
    let (major, minor) = (u32::try_from(stat.devmajor).ok()?, u32::try_from(stat.devminor).ok()?);
    Some(rustix::fs::makedev(major, minor))
}

fn has_xattrs(dir: BorrowedFd<'_>, name: &OsStr, wanted: &HashMap<String, Vec<u8>>) -> bool {
    let Ok(there) = skep_sys::xattr::list_at(dir, name) else { return wanted.is_empty() };
    let there: Vec<&str> = there.iter().filter_map(|key| key.to_str().ok()).filter(|key| is_kept(key)).collect();
    there.len() == wanted.len()
        && there.iter().all(|key| {
            let value = skep_sys::xattr::get_at(dir, name, OsStr::from_bytes(key.as_bytes()));
            value.is_ok_and(|value| value.as_ref() == wanted.get(*key))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_times() {
        assert_eq!(time(1_500_000_000), (1, 500_000_000));
        assert_eq!(time(-1), (-1, 999_999_999));
    }
}

//! Reading and writing the files of a cgroup, by name below its directory descriptor.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, retry_on_intr};

use super::{Error, Group, Result};

/// Files of one line are read with a single call into a buffer of this size.
const FIRST_READ: usize = 4096;

impl Group {
    pub(super) fn open(&self, name: &str, access: OFlags) -> std::result::Result<OwnedFd, Errno> {
        retry_on_intr(|| openat(self.fd.as_fd(), name, access | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()))
    }

    /// Writes in a single call, as the files of cgroups want it.
    pub(super) fn write(&self, name: &str, value: &str) -> std::result::Result<(), Errno> {
        let file = self.open(name, OFlags::WRONLY)?;
        retry_on_intr(|| rustix::io::write(&file, value.as_bytes())).map(drop)
    }

    /// The whole file.
    pub(super) fn read(&self, name: &str) -> std::result::Result<String, Errno> {
        let file = self.open(name, OFlags::RDONLY)?;
        let mut bytes = vec![0; FIRST_READ];
        let mut length = 0;
        loop {
            let count = retry_on_intr(|| rustix::io::read(&file, &mut bytes[length..]))?;
            length += count;
            if count == 0 {
                bytes.truncate(length);
                return String::from_utf8(bytes).map_err(|_| Errno::ILSEQ);
            }
            if length == bytes.len() {
                bytes.resize(length * 2, 0);
            }
        }
    }

    /// A file that holds one number; `max` is `u64::MAX`. `None` if there is no such file.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>> {
        match self.read(name) {
            Ok(text) if text.trim() == "max" => Ok(Some(u64::MAX)),
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(self.error("read", name, errno)),
        }
    }

    /// A file whose absence is the same as its being empty.
    pub(super) fn text(&self, name: &str) -> Result<String> {
        match self.read(name) {
            Ok(text) => Ok(text),
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(String::new()),
            Err(errno) => Err(self.error("read", name, errno)),
        }
    }

    pub(super) fn error(&self, action: &'static str, name: &str, errno: Errno) -> Error {
        Error::io(action, self.path.join(name), errno)
    }
}

/// The lines `key value` of a flat keyed file.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

/// The value of `key` in a flat keyed file.
pub(super) fn value(text: &str, key: &str) -> Option<u64> {
    pairs(text).find(|(have, _)| *have == key).map(|(_, value)| value)
}

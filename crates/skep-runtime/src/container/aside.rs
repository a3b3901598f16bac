//! Mounts that nobody else sees, for a moment: what can only be made of attached mounts is made in a mount namespace of its own.

use std::io;

use rustix::fs::{Mode, OFlags};
use skep_sys::mount::{self, Change, Depth, Propagation};
use skep_sys::ns::{self, kind};

use super::error::{Result, Step};

/// Does something in a copy of the caller's mount namespace, of which nothing is left afterwards but the descriptors that come back.
/// The caller must be where that namespace has its root directory, or lose a root of its own.
pub(super) fn with<T>(work: impl FnOnce() -> io::Result<T>) -> Result<T> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let own = rustix::fs::open("/proc/self/ns/mnt", flags, Mode::empty()).step("open mount namespace")?;
    let here = rustix::fs::open(".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step("open working directory")?;
    ns::unshare(kind::MOUNT).step("unshare mounts")?;
    let private = Change { propagation: Some(Propagation::Private), ..Change::default() };
    let done = mount::change_root(Depth::Tree, &private).and_then(|()| work());
    ns::enter(&own, kind::MOUNT).step("go back to the mount namespace")?;
    rustix::process::fchdir(&here).step("go back to the working directory")?;
    done.step("mount aside")
}

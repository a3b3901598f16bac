//! The root of a container that doesn't run, with its volumes and host paths where they are while it does.
//!
//! They are mounted in a mount namespace that nobody is in. It lasts as long as its descriptor, which [`Root`] keeps.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::OFlags;
use skep_fs::rooted::Root;
use skep_sys::mount::{self, Change, Depth, Propagation};
use skep_sys::ns;

use super::rootfs::{Access, detached};
use crate::model::view::{ContainerView, MountKind, MountPoint};
use crate::{Error, Result};

/// Opens the root. Mount points that are missing are made, as a start would make them.
pub(super) fn open(view: &ContainerView, access: Access) -> Result<Root> {
    if access == Access::Read
        && let Some(root) = mounted(view, Access::Read)?
    {
        return Ok(root);
    }
    mounted(view, Access::Write)?
        .ok_or_else(|| Error::Invalid(format!("container {} has a mount point that can't be made", view.id)))
}

/// None if a mount point is missing and may not be made.
fn mounted(view: &ContainerView, access: Access) -> Result<Option<Root>> {
    let layers = detached(&view.rootfs, access)?;
    // A namespace of mounts is a thread's own as soon as it has left the others'.
    std::thread::scope(|scope| scope.spawn(|| in_new_namespace(view, access, layers)).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread that mounts broke down")))
        .map_err(|e| Error::system(format!("mounting the volumes of container {}", view.id), e))
}

fn in_new_namespace(view: &ContainerView, access: Access, layers: OwnedFd) -> io::Result<Option<Root>> {
    ns::unshare(ns::kind::MOUNT)?;
    // Nothing that is mounted here shows anywhere else.
    let private = Change { propagation: Some(Propagation::Private), ..Change::default() };
    mount::change_root(Depth::Tree, &private)?;
    let namespace = File::open("/proc/thread-self/ns/mnt")?;
    // Any directory will do: it is found by its descriptor.
    mount::attach(&layers, File::open(&view.rootfs.upper)?)?;
    let root = Root::from_fd(layers).keeping(namespace.into());
    for point in view.mounts.iter().filter(|point| point.kind != MountKind::Tmpfs) {
        let source = source(point)?;
        let Some(target) = target(&root, point, &source, access)? else { return Ok(None) };
        mount::attach(mount::clone_tree(source, Depth::Tree)?, target)?;
    }
    Ok(Some(root))
}

fn source(point: &MountPoint) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match point.subpath.as_str() {
        "" => Ok(rustix::fs::open(point.source.as_str(), flags, rustix::fs::Mode::empty())?),
        subpath => Root::open(Path::new(&point.source))?.open_at(Path::new(subpath), flags, 0),
    }
}

/// The mount point, made if it is missing and `access` allows it.
fn target(root: &Root, point: &MountPoint, source: &OwnedFd, access: Access) -> io::Result<Option<OwnedFd>> {
    let path = Path::new(&point.destination);
    match root.open_at(path, OFlags::PATH, 0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found.map(Some),
    }
    if access == Access::Read {
        return Ok(None);
    }
    let stat = rustix::fs::fstat(source)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        return root.make_dirs(path, 0o755, (0, 0)).map(Some);
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    root.make_dirs(parent, 0o755, (0, 0))?;
    root.open_at(path, OFlags::CREATE | OFlags::WRONLY | OFlags::NOCTTY, 0o644).map(Some)
}

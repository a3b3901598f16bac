//! A container's root file system as the engine sees it: the live one through its process, else an overlay of its own that is
//! mounted nowhere and lasts as long as its descriptor.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use parking_lot::Mutex;
use skep_fs::owners::Owners;
use skep_fs::rooted::Root;
use skep_types::Digest;

use super::record::Record;
use super::users::{Identity, UserFiles};
use crate::engine::Inner;
use crate::model::view::{ContainerView, OverlayDirs};
use crate::{Error, Result};

/// Identities found in images, by layers, user and further groups: they can't change as long as the container did not
/// write to its /etc.
#[derive(Default)]
pub(crate) struct Identities(Mutex<HashMap<Question, Identity>>);

/// Layers, user, further groups.
type Question = (Option<Digest>, String, Vec<String>);

/// How many are kept.
const KEPT: usize = 256;

/// Whom the container's process runs as.
pub(super) fn identity(engine: &Inner, record: &Record, overlay: &OverlayDirs) -> Result<Identity> {
    let untouched = std::fs::symlink_metadata(Path::new(&overlay.upper).join("etc")).is_err();
    let key = (record.chain_id, record.config.user.clone(), record.host.group_add.clone());
    if untouched && let Some(identity) = engine.identities.0.lock().get(&key) {
        return Ok(identity.clone());
    }
    let root = Root::from_fd(detached(overlay, Access::Read)?);
    let identity = look_up(&root, &record.config.user, &record.host.group_add)?;
    if untouched {
        let mut known = engine.identities.0.lock();
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(key, identity.clone());
    }
    Ok(identity)
}

/// Looks a user up in the files below `root`.
pub(crate) fn look_up(root: &Root, user: &str, groups: &[String]) -> Result<Identity> {
    let files = UserFiles::read(|path| {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        let file = File::from(root.open_at(Path::new(path), flags, 0).ok()?);
        file.metadata().ok()?.is_file().then_some(file)
    });
    files.identity(user, groups).map_err(|e| Error::Invalid(e.to_string()))
}

/// What the engine is going to do with a root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// The root of a container with its volumes and host paths; if it runs, with all that is mounted in it.
pub(crate) fn open(view: &ContainerView, access: Access) -> Result<Root> {
    if let Some(running) = view.status.running() {
        let path = format!("/proc/{}/root", running.pid);
        let owners = Owners::of_process(running.pid);
        return owners
            .and_then(|owners| Ok(Root::open(Path::new(&path))?.seen_by(owners)))
            .map_err(|e| Error::system(format!("opening the root of container {}", view.id), e));
    }
    match view.mounts.as_slice() {
        [] => detached(&view.rootfs, access).map(Root::from_fd),
        _ => super::mounted::open(view, access),
    }
}

/// An overlay of the layers that is attached nowhere.
pub(crate) fn detached(overlay: &OverlayDirs, access: Access) -> Result<OwnedFd> {
    use skep_sys::overlay::{Overlay, Writable, mount};
    let failed = |e| Error::system("mounting the layers of a container", e);
    let lower: Vec<&Path> = overlay.lower.iter().map(Path::new).collect();
    match access {
        Access::Write => {
            let writable = Writable { upper: Path::new(&overlay.upper), work: Path::new(&overlay.work) };
            mount(&Overlay { lower: &lower, upper: Some(writable), options: &[], flags: &[] }).map_err(failed)
        }
        Access::Read => {
            // The writable layer is read like any other: two writers on it would be one too many.
            let mut layers = vec![Path::new(&overlay.upper)];
            layers.extend(lower);
            if let [single] = layers.as_slice() {
                return Root::open(single).map_err(failed).and_then(|root| {
                    root.open_at(Path::new("."), rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY, 0)
                        .map_err(failed)
                });
            }
            mount(&Overlay { lower: &layers, upper: None, options: &[], flags: &[] }).map_err(failed)
        }
    }
}

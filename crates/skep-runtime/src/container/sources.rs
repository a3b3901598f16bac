//! What comes from the host's file systems: the root file system and the sources of bind mounts, as detached mounts.
//!
//! They are opened by whoever has the rights: the child, in its own copy of the mounts; or the parent, when the child is born into a
//! user namespace that may not be allowed to see the directories.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use skep_sys::mount::{self, Change, Depth, Propagation};
use skep_sys::overlay::{self, Overlay, Writable};

use super::Rootfs;
use super::error::{LaunchError, Result, Step};
use super::options::Options;
use crate::protocol::OverlaySync;
use crate::spec::{Mount, Spec};

/// The detached mounts of a container.
#[derive(Debug)]
pub(super) struct Sources {
    /// The root file system.
    pub(super) root: OwnedFd,
    /// For each mount of the specification, its source if it is a bind mount.
    pub(super) binds: Vec<Option<OwnedFd>>,
}

impl Sources {
    /// Opens them all.
    pub(super) fn open(spec: &Spec, bundle: &Path, rootfs: Rootfs<'_>) -> Result<Self> {
        let binds = spec.mounts.iter().map(|mount| bind_source(mount, bundle)).collect::<Result<_>>()?;
        Ok(Self { root: root(spec, bundle, rootfs)?, binds })
    }
}

/// Whether a mount shows something that exists elsewhere.
pub(super) fn is_bind(mount: &Mount, options: &Options) -> bool {
    options.bind.is_some() || mount.kind.as_deref() == Some("bind")
}

fn bind_source(mount: &Mount, bundle: &Path) -> Result<Option<OwnedFd>> {
    let options = Options::parse(&mount.options)?;
    if mount.kind.as_deref() == Some("overlay")
        && let Some(subpath) = &mount.subpath
    {
        return part_of_overlay(mount, &options, subpath, bundle).map(Some);
    }
    if !is_bind(mount, &options) {
        return Ok(None);
    }
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return Err(LaunchError::invalid("id-mapped mounts are not supported"));
    }
    let source = mount
        .source
        .as_deref()
        .ok_or_else(|| LaunchError::invalid(format!("the bind mount {} has no source", mount.destination.display())))?;
    let source = bundle.join(source);
    let subpath = mount.subpath.as_deref();
    let step = || format!("open bind mount source {}", source.join(subpath.unwrap_or(Path::new(""))).display());
    let tree = clone_source(&source, subpath, options.bind.unwrap_or(Depth::One)).step_with(step)?;
    // Without other orders, what is mounted below the source later comes in, and nothing goes out.
    let default = (Propagation::Slave, Depth::Tree);
    for (propagation, depth) in
        std::iter::once(&default).filter(|_| options.propagation.is_empty()).chain(&options.propagation)
    {
        let change = Change { propagation: Some(*propagation), ..Change::default() };
        mount::change(&tree, *depth, &change).step_with(step)?;
    }
    for (bits, depth) in [(options.tree_bits, Depth::Tree), (options.bits, Depth::One)] {
        if let Some(change) = bits.change() {
            mount::change(&tree, depth, &change).step_with(step)?;
        }
    }
    Ok(Some(tree))
}

/// A part of an overlay that is mounted nowhere else: what is at `subpath` of the layers that the options name. A part can only be taken
/// of what is attached, so the overlay is on the bundle for a moment, in this process's mounts.
fn part_of_overlay(mount: &Mount, options: &Options, subpath: &Path, bundle: &Path) -> Result<OwnedFd> {
    let values = |name: &str| {
        let of = options.data.iter().filter(move |(key, _)| key == name);
        of.filter_map(|(_, value)| value.as_deref().map(Path::new)).collect::<Vec<_>>()
    };
    let (lower, upper, work) = (values("lowerdir+"), values("upperdir"), values("workdir"));
    let upper = upper.first().zip(work.first()).map(|(upper, work)| Writable { upper, work });
    let flags: &[&str] = if upper.is_some() { &["volatile"] } else { &[] };
    let step = || format!("open {} of the layers for {}", subpath.display(), mount.destination.display());
    let whole =
        overlay::mount(&Overlay { lower: &lower, upper, options: &[("index", "off")], flags }).step_with(step)?;
    let place = rustix::fs::open(bundle, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step_with(step)?;
    mount::attach(&whole, &place).step_with(step)?;
    let part = super::rooted::open(&whole, subpath, OFlags::PATH).map_err(std::io::Error::from);
    let tree = part.and_then(|part| mount::clone_tree(part, Depth::One));
    rustix::mount::unmount(bundle, rustix::mount::UnmountFlags::DETACH).step_with(step)?;
    let tree = tree.step_with(step)?;
    let private = Change { propagation: Some(Propagation::Private), ..Change::default() };
    mount::change(&tree, Depth::One, &private).step_with(step)?;
    if let Some(change) = options.bits.change() {
        mount::change(&tree, Depth::One, &change).step_with(step)?;
    }
    Ok(tree)
}

/// A detached copy of what is at `source` or, below it, at `subpath`.
fn clone_source(source: &Path, subpath: Option<&Path>, depth: Depth) -> io::Result<OwnedFd> {
    let Some(subpath) = subpath else { return mount::clone_path(source, depth) };
    let top = rustix::fs::open(source, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    mount::clone_tree(super::rooted::open(top, subpath, OFlags::PATH)?, depth)
}

fn root(spec: &Spec, bundle: &Path, rootfs: Rootfs<'_>) -> Result<OwnedFd> {
    match rootfs {
        Rootfs::Spec => {
            let root = spec.root.as_ref().ok_or_else(|| LaunchError::invalid("the specification has no root"))?;
            let path = bundle.join(&root.path);
            let step = || format!("open rootfs {}", path.display());
            let tree = mount::clone_path(&path, Depth::Tree).step_with(step)?;
            if !super::rooted::is_directory(&tree).step_with(step)? {
                return Err(LaunchError::invalid(format!("rootfs {} is not a directory", path.display())));
            }
            let private = Change { propagation: Some(Propagation::Private), ..Change::default() };
            mount::change(&tree, Depth::Tree, &private).step_with(step)?;
            Ok(tree)
        }
        Rootfs::Overlay { lower, upper, work, sync } => {
            let upper = Some(Writable { upper, work });
            // What is in the upper directory has to mean the same above any other layers: no redirects, no halves of files.
            let options = [("index", "off"), ("redirect_dir", "off"), ("metacopy", "off")];
            let flags: &[&str] = if sync == OverlaySync::Omitted { &["volatile"] } else { &[] };
            let overlay = Overlay { lower, upper, options: &options, flags };
            overlay::mount(&overlay).map_err(|error| {
                let said = error.to_string();
                let shown = LaunchError::os("mount overlay", error);
                if shown.errno.is_some() { shown } else { LaunchError { message: said, ..shown } }
            })
        }
    }
}

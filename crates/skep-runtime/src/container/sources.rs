//! What comes from the host's file systems: the root file system and the sources of bind mounts, as detached mounts.
//!
//! They are opened by whoever has the rights: the child, in its own copy of the mounts; or the parent, when the child lives in a user
//! namespace that may not be allowed to see the directories, or when owners are mapped.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use skep_sys::mount::{self, Change, Depth, Propagation};
use skep_sys::overlay::{self, Overlay, Writable};

use super::error::{LaunchError, Result, Step};
use super::idmap::IdMap;
use super::options::Options;
use super::{Rootfs, aside};
use crate::protocol::{OverlayOwners, OverlaySync};
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
    /// Opens them all. `map` is that of the container's user namespace.
    pub(super) fn open(spec: &Spec, bundle: &Path, rootfs: Rootfs<'_>, map: Option<&IdMap>) -> Result<Self> {
        let bind = |mount| bind_source(mount, bundle, map);
        let binds = spec.mounts.iter().map(bind).collect::<Result<_>>()?;
        Ok(Self { root: root(spec, bundle, rootfs, map)?, binds })
    }
}

/// Whether any file is to be shown under another owner than it has.
pub(super) fn wants_map(spec: &Spec, rootfs: Rootfs<'_>) -> bool {
    matches!(rootfs, Rootfs::Overlay { owners: OverlayOwners::Mapped, .. })
        || spec.mounts.iter().any(|mount| is_mapped(mount, &Options::parse(&mount.options)))
}

/// Whether a mount shows something that exists elsewhere.
pub(super) fn is_bind(mount: &Mount, options: &Options) -> bool {
    options.bind.is_some() || mount.kind.as_deref() == Some("bind")
}

fn is_mapped(mount: &Mount, options: &Options) -> bool {
    options.idmap.is_some() || !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty()
}

fn no_map() -> LaunchError {
    LaunchError::invalid(
        "owners can only be mapped with mappings of the mount's or a user namespace of the container's",
    )
}

fn bind_source(mount: &Mount, bundle: &Path, map: Option<&IdMap>) -> Result<Option<OwnedFd>> {
    let options = Options::parse(&mount.options);
    if mount.kind.as_deref() == Some("overlay")
        && let Some(subpath) = &mount.subpath
    {
        let map = options.idmap.map(|_| map.ok_or_else(no_map)).transpose()?;
        return part_of_overlay(mount, &options, subpath, map).map(Some);
    }
    if !is_bind(mount, &options) {
        return match is_mapped(mount, &options) {
            true => Err(LaunchError::invalid("only owners of bind mounts can be mapped")),
            false => Ok(None),
        };
    }
    let source = mount
        .source
        .as_deref()
        .ok_or_else(|| LaunchError::invalid(format!("the bind mount {} has no source", mount.destination.display())))?;
    let source = bundle.join(source);
    let subpath = mount.subpath.as_deref();
    let step = || format!("open bind mount source {}", source.join(subpath.unwrap_or(Path::new(""))).display());
    let tree = clone_source(&source, subpath, options.bind.unwrap_or(Depth::One)).step_with(step)?;
    map_owners(&tree, mount, &options, map)?;
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

/// Maps the owners in a bind mount, by its own mappings or else by those of the container.
fn map_owners(tree: &OwnedFd, mount: &Mount, options: &Options, map: Option<&IdMap>) -> Result<()> {
    if !is_mapped(mount, options) {
        return Ok(());
    }
    let own = match (mount.uid_mappings.as_slice(), mount.gid_mappings.as_slice()) {
        ([], []) => None,
        ([], _) | (_, []) => return Err(LaunchError::invalid("a mount needs mappings of both user and group ids")),
        (uids, gids) => Some(IdMap::new(uids, gids)?),
    };
    let map = own.as_ref().or(map).ok_or_else(no_map)?;
    map.apply(tree, options.idmap.unwrap_or(Depth::One)).map_err(|error| {
        let step = format!("map the owners of {}", mount.source.as_deref().unwrap_or(Path::new("")).display());
        match error.raw_os_error() {
            Some(libc::EINVAL) => LaunchError::refused(step, "its file system does not support that"),
            _ => LaunchError::os(step, error),
        }
    })
}

/// A part of an overlay that is mounted nowhere else: what is at `subpath` of the layers that the options name.
fn part_of_overlay(mount: &Mount, options: &Options, subpath: &Path, map: Option<&IdMap>) -> Result<OwnedFd> {
    let values = |name: &str| {
        let of = options.data.iter().filter(move |(key, _)| key == name);
        of.filter_map(|(_, value)| value.as_deref().map(Path::new)).collect::<Vec<_>>()
    };
    let (lower, upper, work) = (values("lowerdir+"), values("upperdir"), values("workdir"));
    let upper = upper.first().zip(work.first()).map(|(upper, work)| Writable { upper, work });
    let flags: &[&str] = if upper.is_some() { &["volatile"] } else { &[] };
    let step = || format!("open {} of the layers for {}", subpath.display(), mount.destination.display());
    let whole = Overlay { lower: &lower, upper, options: &[("index", "off")], flags };
    let whole = match map {
        None => overlay::mount(&whole).step_with(step)?,
        Some(map) => map.overlay(&whole)?,
    };
    let part = || {
        let part = super::rooted::open(&whole, subpath, OFlags::PATH)?;
        mount::clone_tree(part, Depth::One)
    };
    let tree = match part() {
        // Kernels before 6.15 take a part only of what is attached.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => aside::with(|| {
            let place = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            mount::attach(&whole, &place)?;
            part()
        })?,
        part => part.step_with(step)?,
    };
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

fn root(spec: &Spec, bundle: &Path, rootfs: Rootfs<'_>, map: Option<&IdMap>) -> Result<OwnedFd> {
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
        Rootfs::Overlay { lower, upper, work, sync, owners } => {
            let upper = Some(Writable { upper, work });
            // What is in the upper directory has to mean the same above any other layers: no redirects, no halves of files.
            let options = [("index", "off"), ("redirect_dir", "off"), ("metacopy", "off")];
            let flags: &[&str] = if sync == OverlaySync::Omitted { &["volatile"] } else { &[] };
            let overlay = Overlay { lower, upper, options: &options, flags };
            match owners {
                OverlayOwners::Mapped => map.ok_or_else(no_map)?.overlay(&overlay),
                OverlayOwners::Stored => overlay::mount(&overlay).map_err(|error| {
                    let said = error.to_string();
                    let shown = LaunchError::os("mount overlay", error);
                    if shown.errno.is_some() { shown } else { LaunchError { message: said, ..shown } }
                }),
            }
        }
    }
}

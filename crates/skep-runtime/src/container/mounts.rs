//! The mounts of the specification, made detached and put on descriptors of their mount points.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{OFlags, fstat};
use rustix::io::Errno;
use skep_sys::mount::{self, Change, Depth, FsContext, attribute};

use super::cgroupfs;
use super::error::{LaunchError, Result, Step};
use super::options::Options;
use super::rooted::{self, Last, PROC_MAGIC};
use crate::spec::{Mount, Spec};

/// What may be mounted over inside procfs: files that show the host's numbers, and that are replaced by ones that show the
/// container's. Everything else there would deceive whoever reads or writes it (CVE-2019-16884).
const PROC_ALLOWED: [&str; 12] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "net/dev",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
    "sys/fs/binfmt_misc",
];

/// What the mounts leave for later steps.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// The container's procfs, if it has one.
    pub(super) proc: Option<OwnedFd>,
    /// Mounts that become read-only once nothing has to be made in them any more.
    pub(super) read_only_later: Vec<OwnedFd>,
}

/// Makes all mounts of a specification below `root`. `binds` are the detached sources of those that are bind mounts.
pub(super) fn make_all(
    root: BorrowedFd<'_>,
    spec: &Spec,
    binds: Vec<Option<OwnedFd>>,
    cgroup: &cgroupfs::View,
) -> Result<Made> {
    let mut made = Made::default();
    for (entry, source) in spec.mounts.iter().zip(binds) {
        make(root, entry, source, cgroup, &mut made).map_err(|error| name_mount(entry, error))?;
    }
    Ok(made)
}

/// Says which mount an error is about.
fn name_mount(entry: &Mount, error: LaunchError) -> LaunchError {
    let source = entry.source.as_deref().unwrap_or(Path::new("none"));
    let step = format!("error mounting {:?} to rootfs at {:?}", source.display(), entry.destination.display());
    let step = step.replace("\\\"", "\"");
    match error.step.as_ref() {
        "" => LaunchError { step: step.into(), ..error },
        inner => LaunchError { message: format!("{inner}: {}", error.message), step: step.into(), ..error },
    }
}

fn make(
    root: BorrowedFd<'_>,
    entry: &Mount,
    source: Option<OwnedFd>,
    cgroup: &cgroupfs::View,
    made: &mut Made,
) -> Result<()> {
    let options = Options::parse(&entry.options);
    if let Some(tree) = source {
        return bind(root, entry, &tree);
    }
    let kind = entry.kind.as_deref().unwrap_or_default();
    match kind {
        "" | "none" => Err(LaunchError::invalid("a mount needs a type")),
        "cgroup" | "cgroup2" => {
            let target = target(root, &entry.destination, Last::Directory)?;
            cgroupfs::mount(&target, kind, &options, cgroup, made)
        }
        _ => filesystem(root, entry, kind, &options, made),
    }
}

fn bind(root: BorrowedFd<'_>, entry: &Mount, tree: &OwnedFd) -> Result<()> {
    let last = match rooted::is_directory(tree).step("stat source")? {
        true => Last::Directory,
        false => Last::File,
    };
    if is_proc(&entry.destination) {
        let stat = fstat(tree).step("stat source")?;
        // The root of a procfs has the inode number 1.
        if rooted::magic_of(tree).step("statfs source")? != PROC_MAGIC || stat.st_ino != 1 {
            return Err(LaunchError::invalid("only procfs can be mounted at /proc"));
        }
    }
    let target = target(root, &entry.destination, last)?;
    mount::attach(tree, &target).step("move_mount")
}

fn filesystem(root: BorrowedFd<'_>, entry: &Mount, kind: &str, options: &Options, made: &mut Made) -> Result<()> {
    let target = match kind {
        "proc" | "sysfs" => plain_target(root, &entry.destination)?,
        _ if is_proc(&entry.destination) => return Err(LaunchError::invalid("only procfs can be mounted at /proc")),
        _ if entry.destination == Path::new("/dev") => plain_target(root, &entry.destination)?,
        _ => target(root, &entry.destination, Last::Directory)?,
    };
    let later = kind == "tmpfs" && options.bits.set & attribute::READ_ONLY != 0;
    let attributes = options.bits.set | options.tree_bits.set;
    let source = entry.source.as_deref().and_then(Path::to_str).unwrap_or(kind);
    let made_mount =
        new(kind, source, &options.data, if later { attributes & !attribute::READ_ONLY } else { attributes })?;
    for (propagation, depth) in &options.propagation {
        let change = Change { propagation: Some(*propagation), ..Change::default() };
        mount::change(&made_mount, *depth, &change).step("mount_setattr")?;
    }
    if options.copy_up {
        super::copyup::copy(&target, &made_mount)?;
    }
    mount::attach(&made_mount, &target).step("move_mount")?;
    match kind {
        "proc" => made.proc = Some(made_mount),
        _ if later => made.read_only_later.push(made_mount),
        _ => {}
    }
    Ok(())
}

/// A new file system, mounted nowhere yet.
pub(super) fn new(kind: &str, source: &str, data: &[(String, Option<String>)], attributes: u64) -> Result<OwnedFd> {
    let context = FsContext::open(kind).map_err(|error| match error.raw_os_error() {
        Some(libc::ENODEV) => LaunchError::refused("", format!("this kernel has no file system {kind:?}")),
        _ => LaunchError::os("fsopen", error),
    })?;
    let explain = |option: String, error: std::io::Error| {
        let shown = LaunchError::os(option, error);
        match context.complaint() {
            Some(said) => LaunchError { message: format!("{} ({said})", shown.message), ..shown },
            None => shown,
        }
    };
    // Some file systems take no source; it is only a name to show.
    let _ = context.set("source", source);
    for (key, value) in data {
        match value {
            Some(value) => context.set(key, value).map_err(|error| explain(format!("option {key}={value}"), error))?,
            None => context.flag(key).map_err(|error| explain(format!("option {key}"), error))?,
        }
    }
    context.mount(attributes).map_err(|error| explain("mount".to_owned(), error))
}

fn is_proc(destination: &Path) -> bool {
    let mut components = destination.components().filter(|component| *component != std::path::Component::RootDir);
    components.next().is_some_and(|first| first.as_os_str() == "proc") && components.next().is_none()
}

/// A mount point whose path has no links: what is mounted there is trusted by later steps.
fn plain_target(root: BorrowedFd<'_>, destination: &Path) -> Result<OwnedFd> {
    match rooted::ensure_without_links(root, destination) {
        Err(Errno::LOOP | Errno::NOTDIR) => {
            Err(LaunchError::invalid("this can only be mounted on an ordinary directory, not through a link"))
        }
        result => result.step("open mount point"),
    }
}

fn target(root: BorrowedFd<'_>, destination: &Path, last: Last) -> Result<OwnedFd> {
    let target = rooted::ensure(root, destination, last).step("open mount point")?;
    if rooted::magic_of(&target).step("statfs")? == PROC_MAGIC {
        let inside = destination.strip_prefix("/").unwrap_or(destination).strip_prefix("proc");
        if !inside.is_ok_and(|inside| PROC_ALLOWED.iter().any(|allowed| inside == Path::new(allowed))) {
            return Err(LaunchError::invalid("it is inside /proc, where nothing may be mounted"));
        }
    }
    let (is, root_is) = (fstat(&target).step("stat")?, fstat(root).step("stat")?);
    if (is.st_dev, is.st_ino) == (root_is.st_dev, root_is.st_ino) {
        return Err(LaunchError::invalid("a mount over the root is not supported"));
    }
    Ok(target)
}

/// Makes paths that exist read-only, with everything mounted below them.
pub(super) fn make_read_only(root: BorrowedFd<'_>, paths: &[std::path::PathBuf]) -> Result<()> {
    let change = Change { set: attribute::READ_ONLY, ..Change::default() };
    for path in paths {
        let step = || format!("readonlyPath {}", path.display());
        let Some(found) = existing(root, path).step_with(step)? else { continue };
        let tree = mount::clone_tree(&found, Depth::Tree).step_with(step)?;
        mount::change(&tree, Depth::Tree, &change).step_with(step)?;
        mount::attach(&tree, &found).step_with(step)?;
    }
    Ok(())
}

/// Hides paths that exist: directories behind an empty read-only one, files behind /dev/null, which is the host's, opened by the
/// caller, never one that the container could have put there (CVE-2025-31133).
pub(super) fn mask(root: BorrowedFd<'_>, paths: &[std::path::PathBuf], null: &OwnedFd) -> Result<()> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let step = || format!("maskedPath {}", path.display());
        let Some(found) = existing(root, path).step_with(step)? else { continue };
        let cover = match (rooted::is_directory(&found).step_with(step)?, &empty) {
            (false, _) => {
                let cover = mount::clone_tree(null, Depth::One).step_with(step)?;
                // It is the host's node: read-only, so that the container's root can't change its mode or owner there.
                let set = attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_EXEC;
                mount::change(&cover, Depth::One, &Change { set, ..Change::default() }).step_with(step)?;
                cover
            }
            (true, Some(empty)) => mount::clone_tree(empty, Depth::One).step_with(step)?,
            (true, None) => {
                let limits = [("nr_blocks", "1"), ("nr_inodes", "1")];
                let limits = limits.map(|(key, value)| (key.to_owned(), Some(value.to_owned())));
                new("tmpfs", "tmpfs", &limits, attribute::READ_ONLY)?
            }
        };
        mount::attach(&cover, &found).step_with(step)?;
        if empty.is_none() && rooted::is_directory(&cover).step_with(step)? {
            empty = Some(cover);
        }
    }
    Ok(())
}

fn existing(root: BorrowedFd<'_>, path: &Path) -> std::result::Result<Option<OwnedFd>, Errno> {
    match rooted::open(root.as_fd(), path, OFlags::PATH) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

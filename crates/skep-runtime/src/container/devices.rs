//! Device nodes and links in the container's /dev.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fstat, major, makedev, minor, mknodat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;
use skep_sys::mount::{Depth, attach, clone_tree};

use super::error::{LaunchError, Result, Step};
use super::rooted::{self, Last};
use crate::spec::{Device, Spec};

/// The devices that every container has (config-linux.md, "Default Devices"): path, major, minor.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The links that every container has.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

/// A device node to make.
#[derive(Debug)]
struct Node<'a> {
    path: &'a Path,
    kind: FileType,
    number: u64,
    mode: Mode,
    owner: Option<(u32, u32)>,
}

/// Makes the nodes and links, unless the container has the host's /dev. `umask` must be 0.
pub(super) fn make_all(root: BorrowedFd<'_>, spec: &Spec) -> Result<()> {
    let dev = Path::new("/dev");
    let bound = |entry: &crate::spec::Mount| {
        entry.destination == dev && super::sources::is_bind(entry, &super::options::Options::parse(&entry.options))
    };
    if spec.mounts.iter().any(bound) {
        return Ok(());
    }
    let dev = rooted::ensure_without_links(root, dev).step("open /dev")?;
    let listed = &spec.linux().devices;
    for (path, major, minor) in DEFAULT {
        let path = Path::new(path);
        if !listed.iter().any(|device| device.path == path) {
            let mode = Mode::from_raw_mode(0o666);
            let node = Node { path, kind: FileType::CharacterDevice, number: makedev(major, minor), mode, owner: None };
            make(root, &node)?;
        }
    }
    for device in listed {
        make(root, &Node::new(device)?)?;
    }
    links(dev.as_fd())
}

impl<'a> Node<'a> {
    fn new(device: &'a Device) -> Result<Self> {
        let invalid = |what: &str| LaunchError::invalid(format!("device {}: {what}", device.path.display()));
        let kind = match device.kind.as_str() {
            "c" | "u" => FileType::CharacterDevice,
            "b" => FileType::BlockDevice,
            "p" => FileType::Fifo,
            _ => return Err(invalid("unknown type")),
        };
        let number = |number: i64| u32::try_from(number).map_err(|_| invalid("bad number"));
        let number = match kind {
            FileType::Fifo => 0,
            _ => makedev(number(device.major)?, number(device.minor)?),
        };
        let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
        let owner = Some((device.uid.unwrap_or(0), device.gid.unwrap_or(0))).filter(|owner| *owner != (0, 0));
        Ok(Self { path: &device.path, kind, number, mode, owner })
    }

    fn is(&self, stat: &rustix::fs::Stat) -> bool {
        FileType::from_raw_mode(stat.st_mode) == self.kind
            && (self.kind == FileType::Fifo || stat.st_rdev == self.number)
    }
}

fn make(root: BorrowedFd<'_>, node: &Node<'_>) -> Result<()> {
    let step = || format!("device {}", node.path.display());
    let parent = node.path.parent().unwrap_or(Path::new("/"));
    let name = node.path.file_name().ok_or_else(|| LaunchError::invalid(step() + ": bad path"))?;
    let parent = rooted::ensure(root, parent, Last::Directory).step_with(step)?;
    match mknodat(&parent, name, node.kind, node.mode, node.number) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            let there = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).step_with(step)?;
            if !node.is(&there) {
                return Err(LaunchError::invalid(step() + ": something else is there"));
            }
            return Ok(());
        }
        // A user namespace may not make devices.
        Err(Errno::PERM) if node.kind != FileType::Fifo => return bind(root, node),
        Err(error) => return Err(LaunchError::os(step(), error)),
    }
    if let Some((uid, gid)) = node.owner {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).step_with(step)?;
        // A change of owner takes some bits of the mode away.
        chmodat(&parent, name, node.mode, AtFlags::empty()).step_with(step)?;
    }
    Ok(())
}

/// Shows the host's node of the same path, if it is the same device.
fn bind(root: BorrowedFd<'_>, node: &Node<'_>) -> Result<()> {
    let step = || format!("bind device {}", node.path.display());
    let host = host_node(node.path, node.kind, major(node.number), minor(node.number))?;
    let target = rooted::ensure(root, node.path, Last::File).step_with(step)?;
    attach(clone_tree(&host, Depth::One).step_with(step)?, &target).step_with(step)
}

/// The host's device node at a path, if it is the one expected.
fn host_node(path: &Path, kind: FileType, major: u32, minor: u32) -> Result<OwnedFd> {
    let step = || format!("open {}", path.display());
    let node = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step_with(step)?;
    let stat = fstat(&node).step_with(step)?;
    if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != makedev(major, minor) {
        return Err(LaunchError::refused(step(), "it is not the device of that name"));
    }
    Ok(node)
}

/// The host's /dev/null, proven to be it.
pub(super) fn null() -> Result<OwnedFd> {
    host_node(Path::new("/dev/null"), FileType::CharacterDevice, 1, 3)
}

fn links(dev: BorrowedFd<'_>) -> Result<()> {
    let link = |target: &str, name: &str| match symlinkat(target, dev, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(LaunchError::os(format!("link /dev/{name}"), error)),
    };
    for (target, name) in LINKS {
        link(target, name)?;
    }
    if Path::new("/proc/kcore").exists() {
        link("/proc/kcore", "core")?;
    }
    match unlinkat(dev.as_fd(), c"ptmx", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => link("pts/ptmx", "ptmx"),
        Err(error) => Err(LaunchError::os("replace /dev/ptmx", error)),
    }
}

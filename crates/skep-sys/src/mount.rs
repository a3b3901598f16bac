//! The mount API of Linux 5.2 and later, by descriptors only.
//!
//! A mount is made *detached* ([`FsContext::mount`], [`clone_tree`]): nobody sees it, and it goes away with its descriptor unless
//! [`attach`] puts it somewhere. Paths are looked up once, by whoever opens the descriptors; nothing here joins strings.
//!
//! Source: fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// How a mount restricts what is below it: the bits of `MOUNT_ATTR_*`.
pub mod attribute {
    /// Not writable.
    pub const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
    /// Set-user-id bits and file capabilities do not count.
    pub const NO_SUID: u64 = libc::MOUNT_ATTR_NOSUID;
    /// Device nodes can't be opened.
    pub const NO_DEV: u64 = libc::MOUNT_ATTR_NODEV;
    /// Nothing can be executed.
    pub const NO_EXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
    /// Access times of files are not kept.
    pub const NO_ATIME: u64 = libc::MOUNT_ATTR_NOATIME;
    /// Access times are always kept.
    pub const STRICT_ATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
    /// The mask of the three ways to keep access times; clearing it means "relative".
    pub const ATIME_MASK: u64 = libc::MOUNT_ATTR__ATIME;
    /// Access times of directories are not kept.
    pub const NO_DIR_ATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
    /// Symbolic links are not followed.
    pub const NO_SYMLINKS: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;
    /// Owners are shown through the maps of a user namespace.
    pub const ID_MAPPED: u64 = libc::MOUNT_ATTR_IDMAP;
}

/// What mounts and unmounts below one mount do to its copies in other namespaces (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Nothing goes in or out.
    Private,
    /// They go both ways.
    Shared,
    /// They come in only.
    Slave,
    /// As private, and the mount can't be cloned.
    Unbindable,
}

/// A change of a mount's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change<'a> {
    /// Bits of [`attribute`] that are set.
    pub set: u64,
    /// Bits of [`attribute`] that are cleared first.
    pub clear: u64,
    /// The new propagation.
    pub propagation: Option<Propagation>,
    /// The user namespace whose maps count, with [`attribute::ID_MAPPED`].
    pub user_namespace: Option<BorrowedFdEq<'a>>,
}

/// A borrowed descriptor that can be compared.
#[derive(Debug, Clone, Copy)]
pub struct BorrowedFdEq<'a>(pub BorrowedFd<'a>);

impl PartialEq for BorrowedFdEq<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_raw_fd() == other.0.as_raw_fd()
    }
}

impl Eq for BorrowedFdEq<'_> {}

/// Whether something is done to one mount or to all below it as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// This one.
    One,
    /// This one and all below.
    Tree,
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the mount whose root is behind `mount`, attached or not (mount_setattr(2), Linux 5.12).
pub fn change(mount: impl AsFd, depth: Depth, change: &Change<'_>) -> io::Result<()> {
    set_attributes(mount.as_fd(), c"", depth, change)
}

/// Changes the mount at the top of the caller's root directory.
pub fn change_root(depth: Depth, change: &Change<'_>) -> io::Result<()> {
    set_attributes(CWD, c"/", depth, change)
}

fn set_attributes(at: BorrowedFd<'_>, path: &CStr, depth: Depth, change: &Change<'_>) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: match change.propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Shared) => libc::MS_SHARED,
            Some(Propagation::Slave) => libc::MS_SLAVE,
            Some(Propagation::Unbindable) => libc::MS_UNBINDABLE,
        },
        userns_fd: change.user_namespace.map_or(0, |fd| fd.0.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH
        | match depth {
            Depth::One => 0,
            Depth::Tree => libc::AT_RECURSIVE,
        };
    // SAFETY: `path` is a C string, and `attr` a mount_attr of the size given; both live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A file system being configured.
#[derive(Debug)]
pub struct FsContext(OwnedFd);

impl FsContext {
    /// Opens a file system by its type.
    pub fn open(kind: &str) -> io::Result<Self> {
        Ok(Self(fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?))
    }

    /// Sets an option that has a value. The kernel takes at most 255 bytes.
    pub fn set(&self, key: &str, value: &str) -> io::Result<()> {
        Ok(fsconfig_set_string(&self.0, key, value)?)
    }

    /// Sets an option that has none.
    pub fn flag(&self, key: &str) -> io::Result<()> {
        Ok(fsconfig_set_flag(&self.0, key)?)
    }

    /// Makes the file system and a detached mount of it, with bits of [`attribute`].
    pub fn mount(&self, attributes: u64) -> io::Result<OwnedFd> {
        fsconfig_create(&self.0)?;
        let bits = u32::try_from(attributes).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(bits))?)
    }

    /// What the kernel said about what went wrong, if anything: its messages, one after the other.
    pub fn complaint(&self) -> Option<String> {
        let mut said = Vec::new();
        let mut line = [0u8; 512];
        while let Ok(length) = rustix::io::read(&self.0, &mut line) {
            // Each message is a letter for its level, a space, and the text.
            let text = String::from_utf8_lossy(&line[..length]);
            said.push(text.get(2..).unwrap_or(&text).trim_end().to_owned());
        }
        (!said.is_empty()).then(|| said.join("; "))
    }
}

/// A detached copy of the mount at a path of the caller's.
pub fn clone_path(path: &Path, depth: Depth) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, clone_flags(depth))?)
}

/// A detached copy of the mount and below it the directory or file behind a descriptor.
pub fn clone_tree(tree: impl AsFd, depth: Depth) -> io::Result<OwnedFd> {
    Ok(open_tree(tree, c"", clone_flags(depth) | OpenTreeFlags::AT_EMPTY_PATH)?)
}

fn clone_flags(depth: Depth) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match depth {
        Depth::One => flags,
        Depth::Tree => flags | OpenTreeFlags::AT_RECURSIVE,
    }
}

/// Puts a detached mount on top of the file or directory behind `target`.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, c"", target, c"", flags)?)
}

/// Makes the directory behind `root`, which must be the root of an attached mount, the root directory of the caller's mount
/// namespace, and lets go of the old one with all its mounts.
///
/// The old root is stacked on the new one by `pivot_root(".", ".")` (see the NOTES of pivot_root(2)), so no directory is needed.
pub fn pivot_to(root: impl AsFd) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", rustix::mount::UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir(c"/")?)
}

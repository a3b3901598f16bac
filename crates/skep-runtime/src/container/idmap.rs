//! Files shown under other owners than they have on the disk: id-mapped mounts (mount_setattr(2), `MOUNT_ATTR_IDMAP`).
//!
//! The map is that of a user namespace: a file of user 0 on the disk belongs to whoever is user 0 there, and what user 0 there writes
//! belongs to user 0 on the disk. So images, volumes and changes are stored the same whatever namespace a container has.
//!
//! An overlay can't be mapped itself; its layers are, each by a mount of its own. What overlayfs does in its own name (copies of files
//! that are about to change, whiteouts, its scratch directory) it does with the credentials of whoever mounted it. These must have ids
//! that the maps know, so the overlay is mounted with the file system ids of the namespace's root; and they need the host's
//! capabilities, for `trusted.*` attributes.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use skep_sys::mount::{self, BorrowedFdEq, Change, Depth, attribute};
use skep_sys::ns::kind;
use skep_sys::overlay::{self, Overlay, Writable};
use skep_sys::process::{clone_child, with_fs_ids};

use super::error::{LaunchError, Result, Step};
use super::namespaces::map_ids;
use super::{aside, channel, launch};
use crate::spec::IdMapping;

/// The id maps of a user namespace.
#[derive(Debug)]
pub(super) struct IdMap {
    namespace: OwnedFd,
    /// Who is user and group 0 there.
    root: (u32, u32),
}

impl IdMap {
    /// That of a namespace that exists, whose maps are known.
    pub(super) fn of(namespace: OwnedFd, uids: &[IdMapping], gids: &[IdMapping]) -> Result<Self> {
        let root = |maps: &[IdMapping], what: &str| {
            let holds = |map: &&IdMapping| map.container_id == 0 && map.size > 0;
            let found = maps.iter().find(holds).map(|map| map.host_id);
            found.ok_or_else(|| LaunchError::invalid(format!("the {what} mappings don't map 0")))
        };
        Ok(Self { namespace, root: (root(uids, "user id")?, root(gids, "group id")?) })
    }

    /// That of a process that was cloned into a user namespace.
    pub(super) fn of_process(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<Self> {
        Self::of(namespace_of(pid)?, uids, gids)
    }

    /// One that no process lives in.
    pub(super) fn new(uids: &[IdMapping], gids: &[IdMapping]) -> Result<Self> {
        let (ours, theirs) = channel::pair()?;
        let parents = ours.as_raw_fd();
        let child = clone_child(kind::USER, None, || {
            // It is killed as soon as its namespace is held; it also ends with its parent.
            let closed = super::first::close_parents(parents);
            let _ = closed.and_then(|()| channel::receive::<channel::Order>(&theirs));
            0
        })
        .step("clone")?;
        let made = map_ids(child.pid, uids, gids).and_then(|()| namespace_of(child.pid));
        launch::kill_and_wait(&child.pidfd);
        // Nothing but the maps counts here; 0 need not be among them.
        Ok(Self { namespace: made?, root: (0, 0) })
    }

    /// Maps a detached mount, or all of a detached tree.
    pub(super) fn apply(&self, tree: &OwnedFd, depth: Depth) -> io::Result<()> {
        let user_namespace = Some(BorrowedFdEq(self.namespace.as_fd()));
        mount::change(tree, depth, &Change { set: attribute::ID_MAPPED, user_namespace, ..Change::default() })
    }

    /// A mapped copy of the mount at a path.
    fn layer(&self, path: &Path) -> io::Result<OwnedFd> {
        let tree = mount::clone_path(path, Depth::One)?;
        self.apply(&tree, Depth::One)?;
        Ok(tree)
    }

    /// As [`overlay::mount`], of mapped layers. The directories of the writable part must be beside each other.
    pub(super) fn overlay<P: AsRef<Path>>(&self, overlay: &Overlay<'_, P>) -> Result<OwnedFd> {
        match self.overlay_of_detached(overlay) {
            // Kernels before 6.15 take layers only from where the caller could see them.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.overlay_aside(overlay),
            made => made.step("mount overlay of mapped layers"),
        }
    }

    fn overlay_of_detached<P: AsRef<Path>>(&self, overlay: &Overlay<'_, P>) -> io::Result<OwnedFd> {
        let named = |fd: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let layers = overlay.lower.iter().map(|path| self.layer(path.as_ref())).collect::<io::Result<Vec<_>>>()?;
        let lower: Vec<PathBuf> = layers.iter().map(named).collect();
        let Some(Writable { upper, work }) = overlay.upper else {
            let same = Overlay { lower: &lower, upper: None, options: overlay.options, flags: overlay.flags };
            return with_fs_ids(self.root, || overlay::mount(&same));
        };
        let (top, names) = side_by_side(upper, work)?;
        let top = self.layer(top)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |name: &OsStr| rustix::fs::openat(&top, name, flags, Mode::empty());
        let (upper, work) = (open(names.0)?, open(names.1)?);
        let (upper, work) = (named(&upper), named(&work));
        let writable = Some(Writable { upper: &upper, work: &work });
        let same = Overlay { lower: &lower, upper: writable, options: overlay.options, flags: overlay.flags };
        with_fs_ids(self.root, || overlay::mount(&same))
    }

    /// The mapped copies are put over what they are copies of, where no one else sees it.
    fn overlay_aside<P: AsRef<Path>>(&self, overlay: &Overlay<'_, P>) -> Result<OwnedFd> {
        aside::with(|| {
            let top = overlay.upper.map(|Writable { upper, work }| side_by_side(upper, work)).transpose()?;
            for path in overlay.lower.iter().map(AsRef::as_ref).chain(top.map(|(top, _)| top)) {
                let below = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                mount::attach(self.layer(path)?, below)?;
            }
            with_fs_ids(self.root, || overlay::mount(overlay))
        })
    }
}

/// Whether kernel and file systems can map the owners of what is in these directories, and make an overlay of the first two. What can't
/// be done is said of the first directory with which it can't.
pub fn check(directories: &[&Path]) -> Result<()> {
    let maps = [IdMapping { container_id: 0, host_id: 1, size: 1 }];
    let map = IdMap::new(&maps, &maps)?;
    for directory in directories {
        let step = || format!("map owners in {}", directory.display());
        match map.layer(directory) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
                let text = format!("the file system ({}) can't do that with this kernel", kind_of(directory));
                return Err(LaunchError::refused(step(), text));
            }
            made => drop(made.step_with(step)?),
        }
    }
    let Some(lower) = directories.get(..2) else { return Ok(()) };
    match map.overlay(&Overlay { lower, upper: None, options: &[], flags: &[] }) {
        Err(error) => Err(LaunchError::refused("mount an overlay of mapped layers", error.message)),
        Ok(_) => Ok(()),
    }
}

/// The type of the file system that a path is in, for people.
fn kind_of(path: &Path) -> String {
    let told = || {
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().to_owned();
        let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let line = table.lines().find(|line| line.split(' ').next() == Some(id.as_str()))?;
        line.split_once(" - ")?.1.split(' ').next().map(str::to_owned)
    };
    told().unwrap_or_else(|| "of an unknown type".to_owned())
}

/// The directory that both are in, and their names there.
fn side_by_side<'a>(upper: &'a Path, work: &'a Path) -> io::Result<(&'a Path, (&'a OsStr, &'a OsStr))> {
    let split = |path: &'a Path| Some((path.parent()?, path.file_name()?));
    match (split(upper), split(work)) {
        (Some((top, upper)), Some((other, work))) if top == other => Ok((top, (upper, work))),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "upper and work directory are not beside each other")),
    }
}

fn namespace_of(pid: i32) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{pid}/ns/user"), flags, Mode::empty()).step("open user namespace")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, chown};
    use std::process::Command;

    use rustix::thread::capabilities;

    use super::*;

    const BASE: u32 = 300_000;

    /// The maps of a namespace in which 0 is [`BASE`]. Its only process has ended.
    fn map() -> IdMap {
        let mut command = Command::new("unshare");
        command.args(["--user", "sh", "-c", "echo; read x"]);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("unshare runs");
        let mut ready = [0];
        io::Read::read_exact(child.stdout.as_mut().expect("its output"), &mut ready).expect("the namespace is there");
        let maps = [IdMapping { container_id: 0, host_id: BASE, size: 1000 }];
        let pid = child.id().cast_signed();
        map_ids(pid, &maps, &maps).expect("maps");
        let map = IdMap::of_process(pid, &maps, &maps).expect("a map");
        drop(child.stdin.take());
        child.wait().expect("it ends");
        map
    }

    fn owner(mount: &OwnedFd, name: &str) -> u32 {
        rustix::fs::statat(mount, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).expect("a file").st_uid
    }

    type Way = fn(&IdMap, &Overlay<'_, PathBuf>) -> Result<OwnedFd>;

    fn check(way: Way) {
        let top = tempfile::tempdir().expect("a directory");
        let at = |name: &str| top.path().join(name);
        for name in ["one/sub", "two", "rw/upper", "rw/work"] {
            fs::create_dir_all(at(name)).expect("a directory");
        }
        for name in ["one/gone", "two/theirs"] {
            fs::write(at(name), "text").expect("a file");
        }
        chown(at("two/theirs"), Some(7), Some(7)).expect("given away");
        let (lower, upper, work) = ([at("one"), at("two")], at("rw/upper"), at("rw/work"));
        let upper_dir = Some(Writable { upper: &upper, work: &work });
        let overlay = Overlay { lower: &lower, upper: upper_dir, options: &[("index", "off")], flags: &[] };
        let before = capabilities(None).expect("capabilities");
        let mount = way(&map(), &overlay).expect("an overlay");
        assert_eq!(capabilities(None).expect("capabilities"), before, "the caller has what it had");
        assert_eq!((owner(&mount, "gone"), owner(&mount, "theirs")), (BASE, BASE + 7));
        // A copy of a file that changes, and the mark of one that went, are overlayfs' own.
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::chmodat(&mount, "theirs", mode, rustix::fs::AtFlags::empty()).expect("changed");
        rustix::fs::unlinkat(&mount, "gone", rustix::fs::AtFlags::empty()).expect("deleted");
        let (copy, mark) = (upper.join("theirs"), upper.join("gone"));
        assert_eq!(fs::metadata(copy).expect("the copy").uid(), 7);
        let mark = fs::symlink_metadata(mark).expect("the mark");
        assert!(mark.file_type().is_char_device() && mark.uid() == 0 && mark.rdev() == 0);
        let visible = fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
        assert!(!visible.contains(&top.path().display().to_string()), "attached nowhere");
    }

    #[test]
    fn overlays_of_detached_layers() {
        check(|map, overlay| match map.overlay_of_detached(overlay) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => map.overlay_aside(overlay),
            made => made.step("overlay"),
        });
    }

    #[test]
    fn the_way_of_older_kernels() {
        let work = || check(IdMap::overlay_aside);
        // Its mounts are the thread's own for a moment.
        std::thread::spawn(work).join().expect("a thread");
    }

    #[test]
    fn a_part_can_be_taken_aside() {
        let aside = std::thread::spawn(|| {
            let part = aside::with(|| mount::clone_path(Path::new("/proc/self"), Depth::One)).expect("a mount");
            fs::File::from(part).metadata().expect("a directory").is_dir()
        });
        assert!(aside.join().expect("a thread"));
    }

    #[test]
    fn zero_has_to_be_mapped() {
        let namespace = || rustix::fs::open("/proc/self/ns/user", OFlags::RDONLY, Mode::empty()).expect("a namespace");
        let from = |container_id| [IdMapping { container_id, host_id: 1000, size: 10 }];
        assert_eq!(IdMap::of(namespace(), &from(0), &from(0)).expect("a map").root, (1000, 1000));
        let error = IdMap::of(namespace(), &from(1), &from(0)).expect_err("no root");
        assert!(error.to_string().contains("user id mappings don't map 0"), "{error}");
    }
}

//! Making, opening and removing the directories.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::layout::Hierarchy;
use super::path::Base;
use super::{Cgroup, CgroupPath, Controllers, Error, Group, Layout, Result, Version};

/// How long [`remove`] waits for processes that are ending.
const REMOVE_DEADLINE: Duration = Duration::from_secs(2);

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

pub(super) fn create(layout: &Layout, path: &CgroupPath) -> Result<Cgroup> {
    let own = own_cgroups(path)?;
    let mut groups = Vec::with_capacity(layout.hierarchies.len());
    let mut refused = None;
    for hierarchy in &layout.hierarchies {
        match create_in(hierarchy, &hierarchy.directory(path, &own)) {
            Ok(group) => groups.push(group),
            Err(Error::Io { action, path, source }) if is_refusal(&source) => {
                refused.get_or_insert(Error::Io { action, path, source });
            }
            Err(error) => {
                let _ = remove(&Cgroup { groups });
                return Err(error);
            }
        }
    }
    match refused {
        Some(error) if groups.is_empty() => Err(error),
        _ => Ok(Cgroup { groups }),
    }
}

pub(super) fn open(layout: &Layout, path: &CgroupPath) -> Result<Cgroup> {
    let own = own_cgroups(path)?;
    let mut groups = Vec::with_capacity(layout.hierarchies.len());
    for hierarchy in &layout.hierarchies {
        let dir = hierarchy.directory(path, &own);
        match openat(CWD, &dir, DIRECTORY, Mode::empty()) {
            Ok(fd) => {
                groups.push(Group { version: hierarchy.version, controllers: hierarchy.controllers, fd, path: dir })
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::io("open", dir, errno)),
        }
    }
    if groups.is_empty() { Err(Error::Gone { path: path.relative().to_owned() }) } else { Ok(Cgroup { groups }) }
}

/// Removes every directory; goes on after an error and reports the first.
pub(super) fn remove(cgroup: &Cgroup) -> Result<()> {
    let deadline = Instant::now() + REMOVE_DEADLINE;
    let mut first = Ok(());
    for group in &cgroup.groups {
        let mut pause = Duration::from_micros(200);
        let result = loop {
            match remove_tree(&group.path) {
                Err(Errno::BUSY) if Instant::now() < deadline => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                Ok(()) | Err(Errno::NOENT) => break Ok(()),
                Err(errno) => break Err(Error::io("remove", &group.path, errno)),
            }
        };
        first = first.and(result);
    }
    first
}

/// Removes a directory after those below it, for which it looks only if the first try fails.
fn remove_tree(dir: &Path) -> std::result::Result<(), Errno> {
    match unlinkat(CWD, dir, AtFlags::REMOVEDIR) {
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        other => return other,
    }
    for child in children(openat(CWD, dir, DIRECTORY, Mode::empty())?)? {
        match remove_tree(&dir.join(child)) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    unlinkat(CWD, dir, AtFlags::REMOVEDIR)
}

/// The names of the cgroups below a directory.
pub(super) fn children(dir: OwnedFd) -> std::result::Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::new(dir)? {
        let entry = entry?;
        if entry.file_type() == FileType::Directory && !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn create_in(hierarchy: &Hierarchy, dir: &Path) -> Result<Group> {
    let parent = dir.parent().unwrap_or(&hierarchy.mount);
    if hierarchy.version == Version::V2 {
        make_directories(hierarchy, parent)?;
        enable_controllers(hierarchy, parent)?;
    }
    let existed = match mkdirat(CWD, dir, MODE) {
        Ok(()) => false,
        Err(Errno::EXIST) => true,
        Err(Errno::NOENT) => {
            make_directories(hierarchy, parent)?;
            mkdirat(CWD, dir, MODE).map(|()| false).map_err(|errno| Error::io("create", dir, errno))?
        }
        Err(errno) => return Err(Error::io("create", dir, errno)),
    };
    let fd = openat(CWD, dir, DIRECTORY, Mode::empty()).map_err(|errno| Error::io("open", dir, errno))?;
    let group = Group { version: hierarchy.version, controllers: hierarchy.controllers, fd, path: dir.to_owned() };
    if existed && !group.read("cgroup.procs").map_err(|errno| group.error("read", "cgroup.procs", errno))?.is_empty() {
        return Err(Error::InUse { path: group.path });
    }
    if hierarchy.version == Version::V1 && hierarchy.controllers.contains(Controllers::CPUSET) {
        inherit_cpuset(&group)?;
    }
    Ok(group)
}

const MODE: Mode = Mode::from_raw_mode(0o755);

/// Makes the directories from the hierarchy's mount to `dir`. A v1 cpuset without CPUs and memory nodes can't hold processes:
/// it gets those of the one above, and is told to hand them on to the cgroups made in it.
fn make_directories(hierarchy: &Hierarchy, dir: &Path) -> Result<()> {
    if dir == hierarchy.mount {
        return Ok(());
    }
    match mkdirat(CWD, dir, MODE) {
        Err(Errno::EXIST) => return Ok(()),
        Err(Errno::NOENT) => {
            make_directories(hierarchy, dir.parent().unwrap_or(&hierarchy.mount))?;
            match mkdirat(CWD, dir, MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(Error::io("create", dir, errno)),
            }
        }
        Ok(()) => {}
        Err(errno) => return Err(Error::io("create", dir, errno)),
    }
    if hierarchy.version == Version::V1 && hierarchy.controllers.contains(Controllers::CPUSET) {
        let fd = openat(CWD, dir, DIRECTORY, Mode::empty()).map_err(|errno| Error::io("open", dir, errno))?;
        let group = Group { version: Version::V1, controllers: hierarchy.controllers, fd, path: dir.to_owned() };
        inherit_cpuset(&group)?;
        group
            .write("cgroup.clone_children", "1")
            .map_err(|errno| group.error("write", "cgroup.clone_children", errno))?;
    }
    Ok(())
}

/// Copies the CPUs and memory nodes of the cgroup above into an empty v1 cpuset.
fn inherit_cpuset(group: &Group) -> Result<()> {
    for (file, above) in [("cpuset.cpus", "../cpuset.cpus"), ("cpuset.mems", "../cpuset.mems")] {
        let read = |name| group.read(name).map_err(|errno| group.error("read", name, errno));
        if read(file)?.trim().is_empty() {
            group.write(file, read(above)?.trim()).map_err(|errno| group.error("write", file, errno))?;
        }
    }
    Ok(())
}

/// Turns on all controllers of the v2 tree for the children of `parent`. One that can't be turned on (a cgroup in between has
/// processes, or was left out by whoever manages it) is not an error here: the limit that needs it will say so.
fn enable_controllers(hierarchy: &Hierarchy, parent: &Path) -> Result<()> {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let available = read(&hierarchy.mount.join("cgroup.controllers"));
    let missing = |dir: &Path| -> Vec<String> {
        let enabled = read(&dir.join("cgroup.subtree_control"));
        let has = |name: &&str| enabled.split_whitespace().any(|enabled| enabled == *name);
        available.split_whitespace().filter(|name| !has(name)).map(|name| format!("+{name}")).collect()
    };
    if available.trim().is_empty() || missing(parent).is_empty() {
        return Ok(());
    }
    let below = parent.strip_prefix(&hierarchy.mount).unwrap_or(Path::new(""));
    let mut dir = hierarchy.mount.clone();
    for component in std::iter::once("".as_ref()).chain(below.iter()) {
        if !component.is_empty() {
            dir.push(component);
        }
        let missing = missing(&dir);
        let file = dir.join("cgroup.subtree_control");
        if !missing.is_empty() && std::fs::write(&file, missing.join(" ")).is_err() {
            for controller in missing {
                let _ = std::fs::write(&file, controller);
            }
        }
    }
    Ok(())
}

/// The text of /proc/self/cgroup where the path needs it.
fn own_cgroups(path: &CgroupPath) -> Result<String> {
    match path.base() {
        Base::Root => Ok(String::new()),
        Base::Own => std::fs::read_to_string("/proc/self/cgroup").map_err(|source| Error::Io {
            action: "read",
            path: "/proc/self/cgroup".into(),
            source,
        }),
    }
}

/// Whether the machine does not let this process make a cgroup there.
fn is_refusal(source: &std::io::Error) -> bool {
    let errno = source.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::PERM | Errno::ACCESS | Errno::ROFS))
}

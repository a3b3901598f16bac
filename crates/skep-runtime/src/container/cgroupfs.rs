//! What a container sees of the cgroups: one cgroup v2 tree, or a tmpfs with a directory for each v1 hierarchy.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::io::Errno;
use skep_sys::mount::{self, Change, Depth, attribute};

use super::error::{Result, Step};
use super::mounts::{Made, new};
use super::options::Options;

/// Where the host has its cgroups.
const HOST: &str = "/sys/fs/cgroup";

/// How the container sees cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// In a namespace whose root is its own cgroup.
    Namespaced,
    /// In the namespace of the host.
    Host,
}

/// One mounted hierarchy of the host.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// Its directory's name below [`HOST`]; empty if it is mounted right there.
    name: String,
    /// The options that name it; empty for v2.
    controllers: Vec<String>,
}

/// Mounts the view of the cgroups at a directory.
pub(super) fn mount(target: &OwnedFd, kind: &str, options: &Options, view: &View, made: &mut Made) -> Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").step("read mountinfo")?;
    let hierarchies = hierarchies(&table);
    let attributes = options.bits.set | options.tree_bits.set;
    if kind == "cgroup2" || hierarchies.iter().any(|hierarchy| hierarchy.name.is_empty()) {
        let tree = unified(attributes)?;
        return mount::attach(&tree, target).step("move_mount");
    }
    let mode = [("mode".to_owned(), Some("755".to_owned()))];
    let top = new("tmpfs", "tmpfs", &mode, attributes & !attribute::READ_ONLY)?;
    mount::attach(&top, target).step("move_mount")?;
    let own = std::fs::read_to_string("/proc/self/cgroup").step("read cgroup")?;
    for hierarchy in &hierarchies {
        let tree = match view {
            View::Namespaced => hierarchy.mount(attributes)?,
            View::Host => hierarchy.own_part(&own, attributes)?,
        };
        hierarchy.place(&top, &tree)?;
    }
    if attributes & attribute::READ_ONLY != 0 {
        made.read_only_later.push(top);
    }
    Ok(())
}

/// The cgroup v2 tree. Who may not mount it gets the host's directory.
fn unified(attributes: u64) -> Result<OwnedFd> {
    match new("cgroup2", "cgroup", &[], attributes) {
        Err(error) if matches!(error.errno, Some(libc::EPERM | libc::EBUSY)) => cloned(Path::new(HOST), attributes),
        result => result,
    }
}

fn cloned(path: &Path, attributes: u64) -> Result<OwnedFd> {
    let step = || format!("open {}", path.display());
    let tree = mount::clone_path(path, Depth::Tree).step_with(step)?;
    mount::change(&tree, Depth::Tree, &Change { set: attributes, ..Change::default() }).step_with(step)?;
    Ok(tree)
}

impl Hierarchy {
    fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        if self.controllers.is_empty() {
            return new("cgroup2", "cgroup", &[], attributes);
        }
        let option = |text: &String| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (text.clone(), None),
        };
        new("cgroup", "cgroup", &self.controllers.iter().map(option).collect::<Vec<_>>(), attributes)
    }

    /// The host's directory of the container's own cgroup. `own` is the text of /proc/self/cgroup.
    fn own_part(&self, own: &str, attributes: u64) -> Result<OwnedFd> {
        let inside = own.lines().find_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            let same = match self.controllers.as_slice() {
                [] => names.is_empty(),
                wanted => wanted.iter().all(|wanted| names.split(',').any(|name| name == wanted)),
            };
            same.then_some(path)
        });
        let path: PathBuf = [HOST, &self.name, inside.unwrap_or("/").trim_start_matches('/')].iter().collect();
        cloned(&path, attributes)
    }

    /// Puts the hierarchy into the tmpfs, with a link for each of several controllers.
    fn place(&self, top: &OwnedFd, tree: &OwnedFd) -> Result<()> {
        let name = self.name.as_str();
        mkdirat(top, name, Mode::from_raw_mode(0o755)).step("mkdir")?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(top, name, flags, Mode::empty()).step("open")?;
        mount::attach(tree, &directory).step("move_mount")?;
        if self.controllers.len() > 1 {
            for controller in &self.controllers {
                match symlinkat(name, top, controller.as_str()) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error).step("symlink"),
                }
            }
        }
        Ok(())
    }
}

/// The hierarchies in the text of /proc/self/mountinfo (proc_pid_mountinfo(5)).
fn hierarchies(table: &str) -> Vec<Hierarchy> {
    let parse = |line: &str| {
        let (place, system) = line.split_once(" - ")?;
        let path = place.split(' ').nth(4)?;
        let mut system = system.split(' ');
        let kind = system.next()?;
        let name = path.strip_prefix(HOST)?.trim_start_matches('/').to_owned();
        let super_options = system.nth(1)?;
        let controllers = match kind {
            "cgroup2" => Vec::new(),
            "cgroup" => super_options.split(',').filter(|option| is_controller(option)).map(str::to_owned).collect(),
            _ => return None,
        };
        // Only directories right below: a container's own view may be mounted deeper.
        (!name.contains('/')).then_some(Hierarchy { name, controllers })
    };
    table.lines().filter_map(parse).collect()
}

/// Whether a super block option of cgroup v1 names the hierarchy, rather than how it behaves.
fn is_controller(option: &str) -> bool {
    let behaviour = ["rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "favordynmods"];
    !behaviour.contains(&option) && !option.starts_with("release_agent=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_three_layouts() {
        let unified =
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        assert_eq!(hierarchies(unified), [Hierarchy { name: String::new(), controllers: vec![] }]);
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = hierarchies(hybrid);
        let named: Vec<_> = found.iter().map(|h| (h.name.as_str(), h.controllers.join("+"))).collect();
        let expected = [("cpu,cpuacct", "cpu+cpuacct"), ("systemd", "name=systemd"), ("unified", "")];
        assert_eq!(named, expected.map(|(name, controllers)| (name, controllers.to_owned())));
    }
}

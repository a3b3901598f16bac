//! Which hierarchies this machine has, where they are mounted, and which controllers are in them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::statfs;

use super::path::Base;
use super::{CgroupPath, Error, Result};

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// Where distributions mount cgroups.
const USUAL_MOUNT: &str = "/sys/fs/cgroup";

/// A set of controllers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Controllers(u16);

const NAMES: [&str; 13] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
];

#[expect(missing_docs, reason = "the controllers of cgroups(7)")]
impl Controllers {
    pub const NONE: Controllers = Controllers(0);
    pub const CPU: Controllers = Controllers(1);
    pub const CPUACCT: Controllers = Controllers(1 << 1);
    pub const CPUSET: Controllers = Controllers(1 << 2);
    pub const MEMORY: Controllers = Controllers(1 << 3);
    pub const DEVICES: Controllers = Controllers(1 << 4);
    pub const FREEZER: Controllers = Controllers(1 << 5);
    /// Called `io` in v2.
    pub const BLKIO: Controllers = Controllers(1 << 6);
    pub const PIDS: Controllers = Controllers(1 << 7);
    pub const HUGETLB: Controllers = Controllers(1 << 8);
    pub const NET_CLS: Controllers = Controllers(1 << 9);
    pub const NET_PRIO: Controllers = Controllers(1 << 10);
    pub const PERF_EVENT: Controllers = Controllers(1 << 11);
    pub const RDMA: Controllers = Controllers(1 << 12);
}

impl Controllers {
    /// Whether all of `other` are in the set.
    pub fn contains(self, other: Controllers) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Controllers) -> Controllers {
        Controllers(self.0 | other.0)
    }

    /// The names of the controllers.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| *name)
    }

    fn named(name: &str) -> Controllers {
        let name = if name == "io" { "blkio" } else { name };
        NAMES.iter().position(|known| *known == name).map_or(Controllers::NONE, |bit| Controllers(1 << bit))
    }
}

impl fmt::Display for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, name) in self.names().enumerate() {
            write!(f, "{}{name}", if position == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Controllers({self})")
    }
}

/// The interface of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller or few of them.
    V1,
    /// One tree for all.
    V2,
}

/// What `docker info` calls the cgroup version, with the mix in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only v1 hierarchies.
    Legacy,
    /// v1 hierarchies with the controllers and a v2 tree beside them.
    Hybrid,
    /// Only the v2 tree.
    Unified,
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    pub(super) mount: PathBuf,
    /// The cgroup that is the root of the mount, as /proc/self/mountinfo has it: `/` but in containers.
    pub(super) root: String,
    /// The controllers of a v1 hierarchy; empty for named ones and for v2, where each cgroup says which it has.
    pub(super) controllers: Controllers,
    /// The `name=` of a v1 hierarchy without controllers.
    pub(super) name: Option<String>,
}

/// The hierarchies of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub(super) hierarchies: Vec<Hierarchy>,
}

impl Layout {
    /// The hierarchies of this machine; looked up once per process.
    pub fn of_this_machine() -> Result<&'static Layout> {
        static LAYOUT: OnceLock<Layout> = OnceLock::new();
        if let Some(layout) = LAYOUT.get() {
            return Ok(layout);
        }
        let layout = Layout::detect()?;
        Ok(LAYOUT.get_or_init(|| layout))
    }

    fn detect() -> Result<Layout> {
        if statfs(USUAL_MOUNT).is_ok_and(|fs| fs.f_type == CGROUP2_MAGIC) {
            let unified = Hierarchy {
                version: Version::V2,
                mount: USUAL_MOUNT.into(),
                root: "/".to_owned(),
                controllers: Controllers::NONE,
                name: None,
            };
            return Ok(Layout { hierarchies: vec![unified] });
        }
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").map_err(|source| Error::Io {
            action: "read",
            path: "/proc/self/mountinfo".into(),
            source,
        })?;
        let layout = Layout::parse(&mountinfo);
        if layout.hierarchies.is_empty() { Err(Error::NotMounted) } else { Ok(layout) }
    }

    /// The hierarchies in the text of /proc/self/mountinfo. Of several mounts of one hierarchy the first counts.
    fn parse(mountinfo: &str) -> Layout {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let mut after = after.split(' ');
            let kind = after.next();
            let options = after.nth(1).unwrap_or("");
            let mut before = before.split(' ').skip(3);
            let (Some(root), Some(mount)) = (before.next(), before.next()) else { continue };
            let mut controllers = Controllers::NONE;
            let mut name = None;
            let version = match kind {
                Some("cgroup2") => Version::V2,
                Some("cgroup") => {
                    for option in options.split(',') {
                        controllers = controllers.with(Controllers::named(option));
                        name = name.or(option.strip_prefix("name=").map(str::to_owned));
                    }
                    Version::V1
                }
                _ => continue,
            };
            if version == Version::V1 && controllers == Controllers::NONE && name.is_none() {
                continue; // a controller that did not exist when this was written, such as misc or debug
            }
            let known =
                |have: &Hierarchy| have.version == version && have.controllers == controllers && have.name == name;
            if !hierarchies.iter().any(known) {
                let (mount, root) = (unescape(mount).into(), unescape(root));
                hierarchies.push(Hierarchy { version, mount, root, controllers, name });
            }
        }
        Layout { hierarchies }
    }

    /// Which mix of versions this is.
    pub fn kind(&self) -> Kind {
        let has = |version| self.hierarchies.iter().any(|hierarchy| hierarchy.version == version);
        match (has(Version::V1), has(Version::V2)) {
            (true, true) => Kind::Hybrid,
            (true, false) => Kind::Legacy,
            (false, _) => Kind::Unified,
        }
    }

    /// The controllers that a new cgroup can use.
    pub fn controllers(&self) -> Controllers {
        self.hierarchies.iter().fold(Controllers::NONE, |all, hierarchy| {
            all.with(match hierarchy.version {
                Version::V1 => hierarchy.controllers,
                Version::V2 => v2_controllers(&hierarchy.mount),
            })
        })
    }
}

/// The controllers listed in `cgroup.controllers` of a v2 directory; devices and freezer are always there.
fn v2_controllers(dir: &Path) -> Controllers {
    let text = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let listed = text.split_whitespace().map(Controllers::named).fold(Controllers::NONE, Controllers::with);
    let built_in = Controllers::FREEZER.with(Controllers::DEVICES);
    listed.with(built_in).with(if listed.contains(Controllers::CPU) { Controllers::CPUACCT } else { Controllers::NONE })
}

impl Hierarchy {
    /// The directory of `path`. `own` is the text of /proc/self/cgroup, read only for relative paths.
    pub(super) fn directory(&self, path: &CgroupPath, own: &str) -> PathBuf {
        match path.base() {
            Base::Root => self.mount.join(path.relative()),
            Base::Own => {
                let own = self.own_cgroup(own);
                let own = Path::new(own.strip_prefix(self.root.as_str()).unwrap_or("").trim_start_matches('/'));
                let parent = match self.version {
                    Version::V1 => own,
                    Version::V2 => own.parent().unwrap_or(own),
                };
                self.mount.join(parent).join(path.relative())
            }
        }
    }

    /// The cgroup of this hierarchy in the text of /proc/self/cgroup.
    fn own_cgroup<'a>(&self, text: &'a str) -> &'a str {
        text.lines()
            .find_map(|line| {
                let (id, rest) = line.split_once(':')?;
                let (names, path) = rest.split_once(':')?;
                let ours = match self.version {
                    Version::V2 => id == "0" && names.is_empty(),
                    Version::V1 => names.split(',').any(|name| match &self.name {
                        Some(own) => name.strip_prefix("name=") == Some(own),
                        None => {
                            self.controllers.contains(Controllers::named(name))
                                && Controllers::named(name) != Controllers::NONE
                        }
                    }),
                };
                ours.then_some(path)
            })
            .unwrap_or("/")
    }
}

/// Undoes the octal escapes of /proc/self/mountinfo (space, tab, newline and backslash).
fn unescape(field: &str) -> String {
    let mut text = field.to_owned();
    for (escape, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        if text.contains(escape) {
            text = text.replace(escape, character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
50 23 0:33 / /mnt/a\\040copy rw,relatime - cgroup cgroup rw,devices
";

    #[test]
    fn hybrid() {
        let layout = Layout::parse(HYBRID);
        assert_eq!(layout.kind(), Kind::Hybrid);
        let mounts: Vec<_> =
            layout.hierarchies.iter().map(|hierarchy| (hierarchy.mount.to_str(), hierarchy.controllers)).collect();
        assert_eq!(
            mounts,
            [
                (Some("/sys/fs/cgroup/cpu,cpuacct"), Controllers::CPU.with(Controllers::CPUACCT)),
                (Some("/sys/fs/cgroup/devices"), Controllers::DEVICES),
                (Some("/sys/fs/cgroup/systemd"), Controllers::NONE),
                (Some("/sys/fs/cgroup/unified"), Controllers::NONE),
            ]
        );
        assert_eq!(layout.hierarchies[2].name.as_deref(), Some("systemd"));
    }

    #[test]
    fn legacy_and_unified() {
        assert_eq!(Layout::parse("1 2 0:1 / /cg rw - cgroup cgroup rw,memory\n").kind(), Kind::Legacy);
        assert_eq!(Layout::parse("1 2 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").kind(), Kind::Unified);
        assert!(Layout::parse("nonsense\n1 2 - \n").hierarchies.is_empty());
    }

    #[test]
    fn relative_paths_start_at_the_callers_cgroup() {
        let layout = Layout::parse(HYBRID);
        let own = "5:devices:/a/b\n3:name=systemd:/sys\n2:cpu,cpuacct:/\n0::/user/session\n";
        let dirs = |text| -> Vec<String> {
            let path = CgroupPath::new(Some(text), "x").unwrap();
            layout.hierarchies.iter().map(|hierarchy| hierarchy.directory(&path, own).display().to_string()).collect()
        };
        assert_eq!(
            dirs("c1"),
            [
                "/sys/fs/cgroup/cpu,cpuacct/c1",
                "/sys/fs/cgroup/devices/a/b/c1",
                "/sys/fs/cgroup/systemd/sys/c1",
                "/sys/fs/cgroup/unified/user/c1",
            ]
        );
        assert_eq!(dirs("/skep/c1")[1], "/sys/fs/cgroup/devices/skep/c1");
    }

    #[test]
    fn inside_a_container_the_mounts_root_is_left_out() {
        let layout = Layout::parse("1 2 0:1 /docker/x /cg rw - cgroup cgroup rw,memory\n");
        let path = CgroupPath::new(None, "c1").unwrap();
        assert_eq!(layout.hierarchies[0].directory(&path, "4:memory:/docker/x/sub\n"), Path::new("/cg/sub/c1"));
    }

    #[test]
    fn names_and_sets() {
        assert_eq!(Controllers::named("io"), Controllers::BLKIO);
        assert_eq!(Controllers::CPU.with(Controllers::PIDS).to_string(), "cpu,pids");
        assert!(!Controllers::CPU.contains(Controllers::PIDS));
    }
}

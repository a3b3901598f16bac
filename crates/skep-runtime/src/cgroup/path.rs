//! Where in the hierarchies a cgroup is.

use std::path::{Component, Path};

use super::{Error, Result};

/// The place of a cgroup in every hierarchy: below the hierarchy's root, or below the cgroup of the calling process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupPath {
    relative: String,
    base: Base,
}

/// What a path is relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// The root of the hierarchy as it is mounted here.
    Root,
    /// The cgroup of the calling process (v1), or the one above it (v2, where a cgroup with processes can't have children with
    /// controllers).
    Own,
}

impl CgroupPath {
    /// The path of `linux.cgroupsPath` of a spec: absolute paths start at the root of each hierarchy, others at the caller's own
    /// cgroup; without a path it is the container's id in the caller's own cgroup.
    pub fn new(cgroups_path: Option<&str>, id: &str) -> Result<CgroupPath> {
        let text = match cgroups_path {
            None | Some("") => id,
            Some(text) => text,
        };
        let invalid = |reason| Error::InvalidPath { path: text.to_owned(), reason };
        let mut relative = String::with_capacity(text.len());
        for component in Path::new(text).components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    if !relative.is_empty() {
                        relative.push('/');
                    }
                    relative.push_str(name.to_str().ok_or_else(|| invalid("not UTF-8"))?);
                }
                Component::ParentDir => return Err(invalid("\"..\" is not allowed")),
                Component::Prefix(_) => return Err(invalid("not a Unix path")),
            }
        }
        if relative.is_empty() {
            return Err(invalid("it names the root"));
        }
        if relative.contains(['\n', '\0']) {
            return Err(invalid("control characters are not allowed"));
        }
        let base = if text.starts_with('/') { Base::Root } else { Base::Own };
        Ok(CgroupPath { relative, base })
    }

    /// The path of `linux.cgroupsPath` in the form of the systemd driver, `slice:prefix:name`: the directory where systemd would
    /// put the scope. Systemd itself is not asked.
    pub fn systemd(cgroups_path: &str) -> Result<CgroupPath> {
        let invalid = |reason| Error::InvalidPath { path: cgroups_path.to_owned(), reason };
        let mut parts = cgroups_path.split(':');
        let (Some(slice), Some(prefix), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid("expected the form slice:prefix:name"));
        };
        let slice = if slice.is_empty() { "system.slice" } else { slice };
        let stem = slice.strip_suffix(".slice").ok_or_else(|| invalid("the slice does not end in .slice"))?;
        if slice.contains('/') || name.is_empty() || stem.split('-').any(str::is_empty) && slice != "-.slice" {
            return Err(invalid("not the name of a slice"));
        }
        let mut path = String::from("/");
        if slice != "-.slice" {
            for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
                path.push_str(&stem[..end]);
                path.push_str(".slice/");
            }
        }
        let unit = match (prefix, name.ends_with(".slice")) {
            (_, true) => name.to_owned(),
            ("", false) => format!("{name}.scope"),
            (prefix, false) => format!("{prefix}-{name}.scope"),
        };
        CgroupPath::new(Some(&(path + &unit)), "")
    }

    pub(super) fn relative(&self) -> &str {
        &self.relative
    }

    pub(super) fn base(&self) -> Base {
        self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_specs() {
        let path = |text| {
            CgroupPath::new(text, "c1").map(|path| (path.base, path.relative)).map_err(|error| error.to_string())
        };
        assert_eq!(path(Some("/skep/c1")), Ok((Base::Root, "skep/c1".to_owned())));
        assert_eq!(path(Some("//skep/./c1/")), Ok((Base::Root, "skep/c1".to_owned())));
        assert_eq!(path(Some("a/b")), Ok((Base::Own, "a/b".to_owned())));
        assert_eq!(path(None), Ok((Base::Own, "c1".to_owned())));
        assert_eq!(path(Some("")), Ok((Base::Own, "c1".to_owned())));
        assert!(path(Some("/skep/../..")).is_err());
        assert!(path(Some("/")).is_err());
        assert!(path(Some("/a\nb")).is_err());
    }

    #[test]
    fn paths_of_the_systemd_driver() {
        let path = |text| CgroupPath::systemd(text).map(|path| path.relative).map_err(|error| error.to_string());
        assert_eq!(path("system.slice:docker:abc"), Ok("system.slice/docker-abc.scope".to_owned()));
        assert_eq!(path("a-b.slice:crio:x"), Ok("a.slice/a-b.slice/crio-x.scope".to_owned()));
        assert_eq!(path("-.slice:p:x"), Ok("p-x.scope".to_owned()));
        assert_eq!(path(":p:x"), Ok("system.slice/p-x.scope".to_owned()));
        assert!(path("/plain/path").is_err());
        assert!(path("a--b.slice:p:x").is_err());
        assert!(path("../x.slice:p:x").is_err());
    }
}

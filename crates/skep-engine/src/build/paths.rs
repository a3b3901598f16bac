//! Paths inside a tree, resolved as a process that has the tree for its root would, up to what isn't there.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;
use skep_fs::Root;

/// How many links one lookup follows, as in the kernel.
const LINKS_MAX: usize = 40;

/// Where a path leads.
#[derive(Debug)]
pub(super) struct Located {
    /// The path without links, relative to the root; empty for the root itself.
    pub(super) real: PathBuf,
    /// What is there; nothing if `real` ends with names that there are not.
    pub(super) stat: Option<Stat>,
}

impl Located {
    pub(super) fn is_dir(&self) -> bool {
        self.stat.as_ref().is_some_and(is_dir)
    }
}

pub(super) fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Follows `path`, its last part too.
pub(super) fn locate(root: &Root, path: &Path) -> std::io::Result<Located> {
    let mut names = reversed(path);
    let (mut real, mut links, mut last) = (PathBuf::new(), 0, None);
    while let Some(name) = names.pop() {
        last = None;
        if name == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&name);
        let found = match root.open_at(&next, OFlags::PATH | OFlags::NOFOLLOW, 0) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                names.push(name);
                for name in names.into_iter().rev() {
                    if name == ".." {
                        real.pop();
                    } else {
                        real.push(name);
                    }
                }
                return Ok(Located { real, stat: None });
            }
            Err(error) => return Err(error),
        };
        let stat = rustix::fs::fstat(&found)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            (real, last) = (next, Some(stat));
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(Errno::LOOP.into());
        }
        let target = OsString::from_vec(rustix::fs::readlinkat(&found, c"", Vec::new())?.into_bytes());
        if Path::new(&target).is_absolute() {
            real = PathBuf::new();
        }
        names.extend(reversed(Path::new(&target)));
    }
    let stat = match last {
        Some(stat) => stat,
        None => rustix::fs::fstat(root.open_at(&real, OFlags::PATH | OFlags::NOFOLLOW, 0)?)?,
    };
    Ok(Located { real, stat: Some(stat) })
}

/// Follows `path` but for its last part, which may be a link itself.
pub(super) fn locate_itself(root: &Root, path: &Path) -> std::io::Result<Located> {
    let Some(name) = path.file_name() else { return locate(root, path) };
    let real = locate(root, path.parent().unwrap_or(Path::new("")))?.real.join(name);
    match root.open_at(&real, OFlags::PATH | OFlags::NOFOLLOW, 0) {
        Ok(found) => Ok(Located { real, stat: Some(rustix::fs::fstat(found)?) }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Located { real, stat: None }),
        Err(error) => Err(error),
    }
}

fn reversed(path: &Path) -> Vec<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_inside_and_to_what_is_not_there() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(dir.path().join("a/b")).expect("a directory");
        symlink("/a", dir.path().join("abs")).expect("a link");
        symlink("../../../etc/passwd", dir.path().join("a/out")).expect("a link");
        symlink("loop", dir.path().join("loop")).expect("a link");
        let root = Root::open(dir.path()).expect("a root");
        for (path, real, there) in [
            ("/abs/b", "a/b", true),
            ("abs/out", "etc/passwd", false),
            ("/abs/b/../../..", "", true),
            ("a/new/er", "a/new/er", false),
            ("/", "", true),
        ] {
            let found = locate(&root, Path::new(path)).expect(path);
            assert_eq!((found.real.as_path(), found.stat.is_some()), (Path::new(real), there), "{path}");
        }
        assert!(locate(&root, Path::new("loop")).is_err());
    }
}

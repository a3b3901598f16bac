//! Wildcards in the sources of `COPY`, looked for one name after the other: none but `**` stands for a slash.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, OFlags};
use skep_dockerfile::glob::{Glob, Stars};
use skep_fs::Root;

use super::super::paths::{is_dir, locate};

/// Whether a name has characters with a meaning.
pub(in crate::build) fn is_pattern(name: &[u8]) -> bool {
    name.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

/// The paths that fit `pattern`, in the order of their names: real ones, without links up to the last name. A pattern without
/// wildcards is a path, which leads somewhere or not.
pub(in crate::build) fn expand(root: &Root, pattern: &str) -> std::io::Result<Vec<PathBuf>> {
    let names: Vec<&OsStr> = Path::new(pattern).components().filter_map(name_of).collect();
    let plain = names.iter().take_while(|name| !is_pattern(name.as_bytes())).count();
    let start: PathBuf = names[..plain].iter().collect();
    if plain == names.len() {
        return Ok(vec![start]);
    }
    let found = locate(root, &start)?;
    if !found.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = vec![found.real];
    for (at, name) in names[plain..].iter().enumerate() {
        let last = plain + at + 1 == names.len();
        let mut next = Vec::new();
        for path in &paths {
            match (name.as_bytes(), last) {
                (b"**", false) => all_directories(root, path, &mut next)?,
                _ => descend(root, path, &name.to_string_lossy(), last, &mut next)?,
            }
        }
        paths = next;
    }
    Ok(paths)
}

fn name_of(component: std::path::Component<'_>) -> Option<&OsStr> {
    match component {
        std::path::Component::Normal(name) => Some(name),
        std::path::Component::ParentDir => Some(OsStr::new("..")),
        _ => None,
    }
}

fn descend(root: &Root, path: &Path, pattern: &str, last: bool, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    // A pattern that makes no sense fits nothing.
    let Ok(glob) = Glob::new(pattern, Stars::Plain) else { return Ok(()) };
    let dir = root.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && glob.matches(&String::from_utf8_lossy(name)) {
            let unknown = entry.file_type() == FileType::Unknown;
            let directory = if unknown {
                is_dir(&rustix::fs::statat(&dir, entry.file_name(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
            } else {
                entry.file_type() == FileType::Directory
            };
            if last || directory {
                names.push(path.join(OsStr::from_bytes(name)));
            }
        }
    }
    names.sort();
    out.extend(names);
    Ok(())
}

/// All directories below `path`, itself the first: what `**` stands for.
fn all_directories(root: &Root, path: &Path, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    out.push(path.to_owned());
    let mut below = Vec::new();
    descend(root, path, "*", false, &mut below)?;
    below.iter().try_for_each(|path| all_directories(root, path, out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_go_through_directories_and_not_through_links() {
        let dir = tempfile::tempdir().expect("a directory");
        for path in ["a1", "a2", "b"] {
            std::fs::create_dir(dir.path().join(path)).expect("a directory");
            std::fs::write(dir.path().join(path).join("f.txt"), "").expect("a file");
        }
        std::os::unix::fs::symlink("b", dir.path().join("a3")).expect("a link");
        let root = Root::open(dir.path()).expect("a root");
        let found = |pattern: &str| {
            let paths = expand(&root, pattern).expect(pattern);
            paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found("/a*/f.*"), ["a1/f.txt", "a2/f.txt"]);
        assert_eq!(found("a?"), ["a1", "a2", "a3"]);
        assert_eq!(found("a3/*.txt"), ["b/f.txt"]);
        assert_eq!(found("**/f.txt"), ["a1/f.txt", "a2/f.txt", "b/f.txt"]);
        assert_eq!(found("nothing"), ["nothing"]);
        assert!(found("x/*").is_empty());
    }
}

//! The rules of `cp` about paths: which end is a container, what a trailing slash or `/.` asks for, and under which name
//! a thing arrives.
//!
//! | destination | source a file | source a directory |
//! |---|---|---|
//! | a directory | into it | into it; with `/.` its content |
//! | a file | replaces it | refused |
//! | missing | becomes it; refused with a trailing slash | becomes it |

use std::io;
use std::path::{Component, Path, PathBuf};

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End<'a> {
    /// Empty for this machine.
    pub(crate) container: &'a str,
    pub(crate) path: &'a str,
}

/// Splits `CONTAINER:PATH`. Absolute paths and those that begin with a dot are local whatever they contain.
pub(crate) fn split_end(word: &str) -> End<'_> {
    match word.split_once(':') {
        Some((container, path)) if !word.starts_with(['/', '.']) => End { container, path },
        _ => End { container: "", path: word },
    }
}

/// A path taken apart into the directory and the name in it. `a/b/` is `b` in `a`; `a/b/.` is `.` in `a/b`.
pub(crate) fn split_entry(path: &str) -> (String, String) {
    let cleaned = clean(path);
    if names_content(path) {
        return (cleaned, ".".to_owned());
    }
    match cleaned.rsplit_once('/') {
        _ if cleaned == "/" => ("/".to_owned(), "/".to_owned()),
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((dir, name)) => (dir.to_owned(), name.to_owned()),
        None => (".".to_owned(), cleaned),
    }
}

/// Lexically the shortest path, as Go's `path.Clean`.
pub(crate) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => drop(parts.pop()),
                _ if absolute => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// Where a symbolic link at `path` leads.
pub(crate) fn follow(path: &str, target: &str) -> String {
    if target.starts_with('/') { target.to_owned() } else { clean(&format!("{}/{target}", split_entry(path).0)) }
}

/// `target`, with the trailing slash or `/.` that `path` has.
pub(crate) fn keep_ending(path: &str, target: &str) -> String {
    match path {
        _ if names_content(path) && !names_content(target) => format!("{}/.", target.trim_end_matches('/')),
        _ if path.ends_with('/') && !target.ends_with('/') => format!("{target}/"),
        _ => target.to_owned(),
    }
}

/// The last part is `.`: the directory's content is meant.
fn names_content(path: &str) -> bool {
    path == "." || path.ends_with("/.")
}

/// What is known of the thing to be copied.
pub(crate) struct Source<'a> {
    /// Its path; with `/.` at the end its content is meant.
    pub(crate) path: &'a str,
    pub(crate) is_dir: bool,
}

/// What is known of the place to copy to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) path: String,
    /// None if nothing is there.
    pub(crate) is_dir: Option<bool>,
}

/// Where an archive is unpacked, and the name that its topmost entry gets there; None: its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) dir: String,
    pub(crate) name: Option<String>,
}

/// Decides how `source` becomes `destination`.
pub(crate) fn plan(source: &Source<'_>, destination: &Destination) -> Result<Plan, &'static str> {
    let asserts_directory = destination.path.ends_with('/') || names_content(&destination.path);
    match destination.is_dir {
        Some(true) => return Ok(Plan { dir: destination.path.clone(), name: None }),
        Some(false) if source.is_dir => return Err("cannot copy directory"),
        None if !source.is_dir && asserts_directory => return Err("no such directory"),
        Some(false) | None => {}
    }
    let (dir, name) = split_entry(destination.path.trim_end_matches("/."));
    Ok(Plan { dir, name: Some(name) })
}

/// A destination on this machine; links are followed, and the directory above something missing has to exist.
pub(crate) fn local_destination(path: &str) -> Result<Destination, String> {
    const LINKS_MAX: usize = 10;
    let mut current = path.to_owned();
    for _ in 0..=LINKS_MAX {
        match std::fs::symlink_metadata(&current) {
            Ok(found) if found.is_symlink() => {
                let target = std::fs::read_link(&current).map_err(|e| path_error("readlink", &current, &e))?;
                current = follow(&current, &target.to_string_lossy());
            }
            Ok(found) => return Ok(Destination { path: current, is_dir: Some(found.is_dir()) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (parent, _) = split_entry(&current);
                let above = std::fs::metadata(&parent).map_err(|e| path_error("stat", &parent, &e))?;
                if !above.is_dir() {
                    return Err("not a directory".to_owned());
                }
                return Ok(Destination { path: current, is_dir: None });
            }
            Err(error) => return Err(path_error("lstat", &current, &error)),
        }
    }
    Err(format!("too many symlinks in {path}"))
}

/// A thing on this machine to be copied.
pub(crate) struct LocalSource {
    /// The path to read; its parent directory has no links in it.
    pub(crate) path: PathBuf,
    pub(crate) is_dir: bool,
    /// The name it goes by: that of the link, if one was followed.
    pub(crate) name: String,
}

/// Finds a source; with `follow_link` a link stands for what it points to. A trailing slash asks for a directory.
pub(crate) fn local_source(path: &str, follow_link: bool) -> Result<LocalSource, String> {
    let absolute = local_absolute(path)?;
    let whole = |path: &str| std::fs::canonicalize(path).map_err(|e| path_error("lstat", path, &e));
    let (dir, name) = split_entry(&absolute);
    let as_directory = absolute.ends_with('/') || name == ".";
    let resolved = match follow_link || as_directory {
        true => whole(&absolute)?,
        false => whole(&dir)?.join(&name),
    };
    let found =
        std::fs::symlink_metadata(&resolved).map_err(|e| path_error("lstat", &resolved.to_string_lossy(), &e))?;
    if as_directory && !found.is_dir() {
        return Err(format!("lstat {absolute}: not a directory"));
    }
    let name = if name == "/" { ".".to_owned() } else { name };
    Ok(LocalSource { path: resolved, is_dir: found.is_dir(), name })
}

/// The path from the root, with the trailing slash or `/.` that it had.
pub(crate) fn local_absolute(path: &str) -> Result<String, String> {
    let here = std::env::current_dir().map_err(|e| format!("getwd: {}", crate::cli::failure::go_io_error(&e)))?;
    let joined = here.join(path);
    let text = joined.to_str().ok_or_else(|| format!("{}: not valid UTF-8", joined.display()))?;
    Ok(keep_ending(path, &clean(text)))
}

/// Refuses an output path whose directory is missing, or that is a device.
pub(crate) fn check_output_path(path: &str) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    let cleaned = clean(path);
    let dir = Path::new(&cleaned).parent().filter(|dir| dir.components().any(|part| part != Component::CurDir));
    if let Some(dir) = dir
        && std::fs::metadata(dir).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    {
        return Err(format!("invalid output path: directory \"{}\" does not exist", dir.display()));
    }
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_block_device() || found.file_type().is_char_device() => {
            Err(format!("invalid output path: \"{path}\" must be a directory or a regular file: got a device"))
        }
        _ => Ok(()),
    }
}

fn path_error(operation: &str, path: &str, error: &io::Error) -> String {
    crate::cli::failure::go_path_error(operation, Path::new(path), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        for (word, container, path) in [
            ("web:/etc", "web", "/etc"),
            ("web:", "web", ""),
            ("/a:b", "", "/a:b"),
            ("./a:b", "", "./a:b"),
            ("file", "", "file"),
            ("-", "", "-"),
        ] {
            assert_eq!(split_end(word), End { container, path });
        }
    }

    #[test]
    fn paths_are_taken_apart() {
        for (path, dir, name) in [
            ("/a/b", "/a", "b"),
            ("/a/b/", "/a", "b"),
            ("/a/b/.", "/a/b", "."),
            ("/", "/", "/"),
            ("/a", "/", "a"),
            ("a", ".", "a"),
            ("/a/../../b", "/", "b"),
            (".", ".", "."),
        ] {
            assert_eq!(split_entry(path), (dir.to_owned(), name.to_owned()), "{path}");
        }
        assert_eq!(follow("/a/link", "../b/./c"), "/b/c");
        assert_eq!(follow("/a/link", "/x"), "/x");
        assert_eq!(keep_ending("/a/.", "/b"), "/b/.");
        assert_eq!(keep_ending("/a/", "/b"), "/b/");
    }

    #[test]
    fn the_destination_decides_the_name() {
        let at = |path: &str, is_dir| Destination { path: path.to_owned(), is_dir };
        let into = |dir: &str| Ok(Plan { dir: dir.to_owned(), name: None });
        let becomes = |dir: &str, name: &str| Ok(Plan { dir: dir.to_owned(), name: Some(name.to_owned()) });
        let file = Source { path: "/s/f", is_dir: false };
        let dir = Source { path: "/s/d", is_dir: true };
        assert_eq!(plan(&file, &at("/t", Some(true))), into("/t"));
        assert_eq!(plan(&dir, &at("/t", Some(true))), into("/t"));
        assert_eq!(plan(&file, &at("/t/x", Some(false))), becomes("/t", "x"));
        assert_eq!(plan(&dir, &at("/t/x", Some(false))), Err("cannot copy directory"));
        assert_eq!(plan(&file, &at("/t/x", None)), becomes("/t", "x"));
        assert_eq!(plan(&file, &at("/t/x/", None)), Err("no such directory"));
        assert_eq!(plan(&dir, &at("/t/x/", None)), becomes("/t", "x"));
        assert_eq!(plan(&dir, &at("/t/x/.", None)), becomes("/t", "x"));
    }

    #[test]
    fn local_ends_are_looked_at() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name).to_str().expect("utf-8").to_owned();
        std::fs::create_dir(at("dir")).expect("made");
        std::fs::write(at("file"), "x").expect("written");
        std::os::unix::fs::symlink("dir", at("link")).expect("linked");
        assert_eq!(local_destination(&at("link")), Ok(Destination { path: at("dir"), is_dir: Some(true) }));
        assert_eq!(local_destination(&at("new")), Ok(Destination { path: at("new"), is_dir: None }));
        assert!(local_destination(&at("no/new")).is_err_and(|e| e.ends_with("no: no such file or directory")));
        let source = local_source(&at("link"), false).expect("there");
        assert!(!source.is_dir);
        let source = local_source(&at("link"), true).expect("there");
        assert!(source.is_dir && source.name == "link" && source.path.ends_with("dir"));
        assert_eq!(local_source(&at("dir/."), false).expect("there").name, ".");
        assert!(local_source(&at("file/"), false).is_err());
        assert!(check_output_path(&at("no/file")).is_err());
        assert!(check_output_path("/dev/null").is_err());
        assert_eq!(check_output_path(&at("out.tar")), Ok(()));
    }
}

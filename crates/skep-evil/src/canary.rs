//! A tree of the host beside the target, which has to be the same afterwards.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What a file was.
type Seen = (u32, u32, u32, i64, i64, u64, Vec<u8>);

/// The tree. It is where [`layers`](crate::layers) aims at.
#[derive(Debug)]
pub struct Canary {
    dir: PathBuf,
    before: BTreeMap<PathBuf, Seen>,
}

impl Canary {
    /// Makes the tree in the empty or missing directory `dir`.
    pub fn new(dir: &Path) -> Canary {
        std::fs::create_dir_all(dir.join("sub")).expect("a directory");
        std::fs::write(dir.join("file"), b"alive").expect("a file");
        std::fs::write(dir.join("sub/script"), b"#!/bin/sh\n").expect("a file");
        std::fs::set_permissions(dir.join("sub/script"), std::fs::Permissions::from_mode(0o700)).expect("a mode");
        std::os::unix::fs::symlink("file", dir.join("link")).expect("a link");
        Canary { dir: dir.to_owned(), before: look(dir) }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Fails the test if anything was read into, written, made, removed, linked, or given to someone.
    #[track_caller]
    pub fn check(&self, after: &str) {
        let now = look(&self.dir);
        assert_eq!(now, self.before, "{after}: the host's files were changed");
    }
}

fn look(dir: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = path.symlink_metadata().expect("metadata");
        let content = match metadata.file_type() {
            kind if kind.is_file() => std::fs::read(&path).expect("a file"),
            kind if kind.is_symlink() => {
                std::fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
            }
            _ => Vec::new(),
        };
        if metadata.is_dir() {
            waiting.extend(std::fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        }
        let links = metadata.nlink();
        let seen =
            (metadata.mode(), metadata.uid(), metadata.gid(), metadata.mtime(), metadata.mtime_nsec(), links, content);
        all.insert(path, seen);
    }
    all
}

//! A racer that exchanges a directory and a link to the host while the tree is walked, copied into, packed and deleted.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{CWD, OFlags, RenameFlags};
use skep_evil::canary::Canary;
use skep_evil::tar::Tar;
use skep_fs::Root;
use skep_fs::apply::{ExtractOptions, extract};
use skep_fs::pack::write_tree;

/// Walks of each sort.
const ROUNDS: u64 = 2500;

/// A tree in which `dir` is a directory, and a link to the host, by turns.
struct Arena {
    dir: tempfile::TempDir,
    canary: Canary,
}

impl Arena {
    fn new() -> Arena {
        let dir = tempfile::tempdir().unwrap();
        let canary = Canary::new(&dir.path().join("host"));
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("dir/sub")).unwrap();
        std::fs::write(tree.join("dir/file"), b"inside").unwrap();
        std::os::unix::fs::symlink(canary.dir(), tree.join("link")).unwrap();
        Arena { dir, canary }
    }

    fn tree(&self) -> Root {
        Root::open(&self.dir.path().join("tree")).unwrap()
    }

    /// Runs `walk` again and again while the two are exchanged.
    fn race(&self, walk: impl Fn(&Root)) {
        let (done, exchanged) = (AtomicBool::new(false), AtomicU64::new(0));
        let tree = self.tree();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (one, two) = (self.dir.path().join("tree/dir"), self.dir.path().join("tree/link"));
                while !done.load(Ordering::Relaxed) {
                    // What the walk has deleted or replaced can't be exchanged any more.
                    if rustix::fs::renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).is_ok() {
                        exchanged.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            for _ in 0..ROUNDS {
                walk(&tree);
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_ne!(exchanged.into_inner(), 0, "nobody raced");
        self.canary.check("a race");
    }
}

#[test]
fn walks() {
    let arena = Arena::new();
    arena.race(|tree| {
        if let Ok(bytes) = tree.read_file(Path::new("dir/file"), 100) {
            assert_eq!(bytes, b"inside");
        }
        let _ = tree.make_dirs(Path::new("dir/made/deep"), 0o700, (1, 1));
        if let Ok(file) = tree.open_at(Path::new("dir/new"), OFlags::WRONLY | OFlags::CREATE, 0o600) {
            rustix::io::write(&file, b"evil").unwrap();
        }
    });
}

#[test]
fn copies_in() {
    let arena = Arena::new();
    let archive = Tar::new()
        .dir("dir/sub")
        .file("dir/file", b"evil")
        .file("dir/sub/script", b"evil")
        .hard_link("dir/hard", "dir/file")
        .symlink("dir/soft", "file")
        .raw(&skep_evil::tar::header(b'6', "dir/fifo"))
        .end();
    arena.race(|tree| {
        let _ = extract(archive.as_slice(), tree, Path::new("/"), &ExtractOptions::default());
        let _ = extract(archive.as_slice(), tree, Path::new("/dir"), &ExtractOptions::default());
    });
}

#[test]
fn copies_out() {
    let arena = Arena::new();
    arena.race(|tree| {
        for path in ["dir", "dir/", "dir/sub", "/"] {
            let mut out = Vec::new();
            let _ = write_tree(tree, Path::new(path), OsStr::new("x"), &mut out);
            assert!(!out.windows(5).any(|part| part == b"alive"), "the host's file came out of {path}");
        }
    });
}

#[test]
fn deletions() {
    let arena = Arena::new();
    arena.race(|tree| {
        if let Ok((parent, name)) = tree.parent(Path::new("dir/made")) {
            let _ = tree.make_dirs(Path::new("dir/made/deep"), 0o700, (0, 0));
            let _ = skep_fs::tree::remove(&parent, &name);
        }
    });
}

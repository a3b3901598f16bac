//! The corpus of hostile layers, applied as layers and copied into trees.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use skep_evil::Fate;
use skep_evil::canary::Canary;
use skep_evil::layers::Layer;
use skep_fs::Root;
use skep_fs::apply::{ApplyError, ExtractOptions, LayerTarget, Limits, apply_layer, extract};
use skep_fs::decode::Bounded;
use skep_fs::split::SplitWriter;
use skep_fs::tar::TarError;

fn apply(bytes: &[u8], dir: &Path) -> Result<(), ApplyError> {
    let fs = dir.join("fs");
    std::fs::create_dir_all(&fs).unwrap();
    let split = SplitWriter::new(std::fs::File::create(dir.join("split")).unwrap()).unwrap();
    let stream = Bounded::new(bytes, Limits::default()).map_err(TarError::Io)?;
    let target = LayerTarget::new(split, dir.join("kept"));
    apply_layer(std::io::BufReader::new(stream), &Root::open(&fs).unwrap(), target, Limits::default()).map(drop)
}

fn copy(bytes: &[u8], tree: &Root) -> Result<(), ApplyError> {
    let stream = Bounded::new(bytes, Limits::default()).map_err(TarError::Io)?;
    extract(stream, tree, Path::new("/"), &ExtractOptions::default())
}

#[test]
fn layers_do_what_is_harmless_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let canary = Canary::new(&dir.path().join("host"));
    for Layer { name, below, bytes, fate } in skep_evil::layers::all(canary.dir()) {
        let target = tempfile::tempdir_in(dir.path()).unwrap();
        for (at, below) in below.iter().enumerate() {
            apply(below, &target.path().join(at.to_string())).unwrap();
        }
        fate.check(name, &apply(&bytes, &target.path().join("layer")));
        canary.check(name);
        overlay_is_not_steered(name, &target.path().join("layer/fs"));
    }
}

/// The layers below are in the same tree here, and links of theirs are met.
#[test]
fn copies_stay_in_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    let canary = Canary::new(&dir.path().join("host"));
    for Layer { name, below, bytes, .. } in skep_evil::layers::all(canary.dir()) {
        let target = tempfile::tempdir_in(dir.path()).unwrap();
        let tree = Root::open(target.path()).unwrap();
        for below in &below {
            copy(below, &tree).unwrap();
        }
        Fate::Either.check(name, &copy(&bytes, &tree));
        canary.check(name);
    }
}

/// No attribute that an archive brought is one of overlayfs' own; those of whiteouts are.
fn overlay_is_not_steered(name: &str, fs: &Path) {
    let mut waiting = vec![fs.to_owned()];
    while let Some(path) = waiting.pop() {
        let root = Root::open(path.parent().unwrap()).unwrap();
        for attribute in skep_sys::xattr::list_at(&root, path.file_name().unwrap()).unwrap() {
            let attribute = attribute.to_bytes();
            let steers = attribute.starts_with(b"trusted.overlay.") || attribute.starts_with(b"user.overlay.");
            assert!(!steers || attribute == b"trusted.overlay.opaque", "{name}: {}", attribute.escape_ascii());
        }
        if path.symlink_metadata().unwrap().is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

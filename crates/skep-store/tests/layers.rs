//! Layers from archive to directory and back.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Cursor, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use skep_store::{ChainId, Store, StoreError, UnpackOptions};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

enum What<'a> {
    File(&'a [u8]),
    Dir(u32),
    Link(&'a str),
    Symlink(&'a str),
}

fn archive(entries: &[(&str, What<'_>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, what) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_mtime(1_000_000_000);
        let mut data: &[u8] = &[];
        match what {
            What::File(bytes) => {
                data = bytes;
                header.set_entry_type(tar::EntryType::Regular);
            }
            What::Dir(mode) => {
                header.set_mode(*mode);
                header.set_entry_type(tar::EntryType::Directory);
            }
            What::Link(to) => {
                header.set_entry_type(tar::EntryType::Link);
                header.as_mut_bytes()[157..157 + to.len()].copy_from_slice(to.as_bytes());
            }
            What::Symlink(to) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.as_mut_bytes()[157..157 + to.len()].copy_from_slice(to.as_bytes());
            }
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn put(store: &Store, parent: Option<&ChainId>, bytes: &[u8]) -> Result<ChainId, StoreError> {
    let staged = store.layers().stage()?.unpack(Cursor::new(bytes), &UnpackOptions::default())?;
    Ok(store.layers().commit(parent, vec![staged])?[0])
}

fn read_back(store: &Store, chain: &ChainId) -> Vec<u8> {
    let mut back = Vec::new();
    let mut stream = store.layers().tar_stream(chain).unwrap();
    stream.read_to_end(&mut back).unwrap();
    assert_eq!(stream.size(), back.len() as u64);
    back
}

fn count(path: &Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

/// Nothing is left of what failed but, perhaps, trash.
fn assert_clean(store: &Store) {
    assert_eq!(count(&store.root().join("staging")), 0);
    assert_eq!(count(&store.root().join("layers")), store.layers().list().unwrap().len());
    store.empty_trash().unwrap();
    assert_eq!(count(&store.root().join("trash")), 0);
}

#[test]
fn gnu_tars_archive_comes_back_bit_by_bit() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    std::fs::write(tree.join("a/file"), vec![7u8; 100_000]).unwrap();
    std::fs::hard_link(tree.join("a/file"), tree.join("a/b/second")).unwrap();
    std::fs::write(tree.join("a").join("n".repeat(200)), b"long").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", tree.join("link")).unwrap();
    let sparse = std::fs::File::create(tree.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", 5_000_000).unwrap();
    for format in ["gnu", "posix"] {
        let store = Store::open(&dir.path().join(format)).unwrap();
        let out = std::process::Command::new("tar")
            .args(["--sparse", "--sort=name", &format!("--format={format}"), "-C"])
            .args([tree.to_str().unwrap(), "-cf", "-", "."])
            .output()
            .unwrap();
        assert!(out.status.success());
        let chain = put(&store, None, &gzip(&out.stdout)).unwrap();
        assert!(read_back(&store, &chain) == out.stdout, "{format}: another archive came back");
        let fs = store.layers().lower_dirs(&chain).unwrap().remove(0);
        let same = std::process::Command::new("diff").args(["-r", "--no-dereference"]).arg(&tree).arg(&fs).output();
        assert_eq!(String::from_utf8_lossy(&same.unwrap().stdout), "");
        let (one, two) = (fs.join("sparse").metadata().unwrap(), tree.join("sparse").metadata().unwrap());
        assert_eq!((one.len(), one.mtime_nsec() != 0), (two.len(), format == "posix"));
        assert!(one.blocks() < 100, "holes were filled");
        assert_clean(&store);
    }
}

#[test]
fn entries_that_lead_outside_are_refused_or_contained() {
    let dir = tempfile::tempdir().unwrap();
    let canary = dir.path().join("canary");
    std::fs::write(&canary, b"alive").unwrap();
    let store = Store::open(&dir.path().join("d")).unwrap();
    let target = canary.to_str().unwrap();
    use What::{Dir, File, Link, Symlink};
    let refused: [&[(&str, What<'_>)]; 8] = [
        &[("../canary", File(b"x"))],
        &[("a/../../canary", File(b"x"))],
        &[("h", Link("../../../../canary"))],
        &[("h", Link(target))],
        &[(".wh...", File(b""))],
        &[(".wh.", File(b""))],
        &[("s", Symlink("nowhere")), ("s/x", File(b"x"))],
        &[("h", Link("missing"))],
    ];
    for (at, entries) in refused.iter().enumerate() {
        assert!(put(&store, None, &archive(entries)).is_err(), "{at}");
        assert_clean(&store);
    }
    let outside = dir.path().to_str().unwrap();
    let contained: [&[(&str, What<'_>)]; 4] = [
        &[(target, File(b"x"))],
        &[("etc", Dir(0o755)), ("s", Symlink("/etc")), ("s/new", File(b"x"))],
        &[("s", Symlink(target)), ("s", File(b"x"))],
        &[("s", Symlink(outside)), ("s", Dir(0o700)), ("s/canary", File(b"x"))],
    ];
    for entries in contained {
        let bytes = archive(entries);
        let chain = put(&store, None, &bytes).unwrap();
        assert_eq!(read_back(&store, &chain), bytes);
    }
    assert_eq!(std::fs::read(&canary).unwrap(), b"alive");
    assert_clean(&store);
}

#[test]
fn replaced_files_are_still_in_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    use What::{Dir, File};
    let bytes = archive(&[
        ("f", File(b"first")),
        ("d/inner/x", File(b"deep")),
        ("f", File(b"second")),
        ("d", File(b"was a directory")),
        ("f", Dir(0o711)),
        ("f/y", File(b"last")),
    ]);
    let chain = put(&store, None, &bytes).unwrap();
    assert_eq!(read_back(&store, &chain), bytes);
    let fs = store.layers().lower_dirs(&chain).unwrap().remove(0);
    assert_eq!(std::fs::read(fs.join("d")).unwrap(), b"was a directory");
    assert_eq!(std::fs::read(fs.join("f/y")).unwrap(), b"last");
    assert_eq!(fs.join("f").metadata().unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn whiteouts_become_those_of_overlayfs() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    use What::{Dir, File};
    let base = put(&store, None, &archive(&[("a", Dir(0o700)), ("a/x", File(b"x")), ("b", Dir(0o750))])).unwrap();
    let layer = archive(&[
        ("a/.wh.x", File(b"")),
        ("b/.wh..wh..opq", File(b"")),
        (".wh.c", File(b"")),
        ("c", Dir(0o755)),
        ("d", Dir(0o755)),
        (".wh.d", File(b"")),
        (".wh..wh.plnk", File(b"")),
    ]);
    let chain = put(&store, Some(&base), &layer).unwrap();
    let dirs = store.layers().lower_dirs(&chain).unwrap();
    assert_eq!(dirs.len(), 2);
    let whiteout = dirs[0].join("a/x").symlink_metadata().unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    for (name, opaque) in [("a", false), ("b", true), ("c", true), ("d", true)] {
        let root = skep_fs::Root::open(&dirs[0]).unwrap();
        let value = skep_sys::xattr::get_at(&root, name.as_ref(), "trusted.overlay.opaque".as_ref()).unwrap();
        assert_eq!(value.as_deref() == Some(b"y"), opaque, "{name}");
    }
    // Only implied by the layer: mode and time come from below.
    assert_eq!(dirs[0].join("a").metadata().unwrap().mode() & 0o7777, 0o700);
    assert_eq!(dirs[0].join("a").metadata().unwrap().mtime(), 1_000_000_000);
    assert_eq!(read_back(&store, &chain), layer);
}

#[test]
fn damaged_layers_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let plain = archive(&[("f", What::File(&[1; 70_000])), ("g", What::File(&[2; 70_000]))]);
    let packed = gzip(&plain);
    for cut in [0usize, 1, 5, 100, packed.len() / 2, packed.len() - 1] {
        let options = UnpackOptions { size: Some(packed.len() as u64), ..UnpackOptions::default() };
        let staged = store.layers().stage().unwrap();
        assert!(staged.unpack(Cursor::new(&packed[..cut]), &options).is_err(), "{cut}");
        assert_clean(&store);
    }
    for cut in [600, 70_000, 71_000] {
        assert!(put(&store, None, &plain[..cut]).is_err(), "{cut}");
    }
    let wrong = UnpackOptions { diff_id: Some(skep_types::Digest::from_bytes([9; 32])), ..UnpackOptions::default() };
    let result = store.layers().stage().unwrap().unpack(Cursor::new(&packed), &wrong);
    assert!(matches!(result, Err(StoreError::DiffIdMismatch { .. })));
    assert_clean(&store);
}

#[test]
fn what_a_crash_left_is_gone_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Store::open(dir.path()).unwrap();
        let staged = store.layers().stage().unwrap();
        let layer = archive(&[("f", What::File(b"x"))]);
        std::mem::forget(staged.unpack(Cursor::new(&layer), &UnpackOptions::default()).unwrap());
        std::mem::forget(store.blobs().ingest().unwrap());
        std::fs::create_dir(dir.path().join("layers/orphan")).unwrap();
        assert!(Store::open(dir.path()).is_err_and(|error| error.to_string().contains("another skep daemon")));
        assert_ne!(count(&dir.path().join("staging")), 0);
    }
    // The forgotten layer holds no handle of the database, only paths.
    let store = Store::open(dir.path()).unwrap();
    assert_clean(&store);
    assert_eq!(count(&dir.path().join("layers")), 0);
}

#[test]
fn layers_go_when_nothing_needs_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let base = put(&store, None, &archive(&[("a", What::File(b"1"))])).unwrap();
    let top = put(&store, Some(&base), &archive(&[("b", What::File(b"2"))])).unwrap();
    let other = put(&store, Some(&base), &archive(&[("c", What::File(b"3"))])).unwrap();
    assert!(matches!(store.layers().remove(&base), Err(StoreError::LayerInUse(..))));
    let lease = store.layers().lease();
    lease.hold(&other);
    assert_eq!(store.layers().collect(&[top]).unwrap(), []);
    drop(lease);
    assert_eq!(store.layers().collect(&[top]).unwrap(), [other]);
    assert_eq!(store.layers().collect(&[]).unwrap().len(), 2);
    assert_clean(&store);
}

/// A tree as an upper directory has it: new files, a whiteout, and links.
fn fill(upper: &Path) {
    std::fs::create_dir(upper.join("dir")).unwrap();
    std::fs::write(upper.join("dir/file"), vec![3u8; 300_000]).unwrap();
    std::fs::hard_link(upper.join("dir/file"), upper.join("second")).unwrap();
    std::os::unix::fs::symlink("dir/file", upper.join("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, upper.join("gone"), rustix::fs::FileType::CharacterDevice, 0o0.into(), 0)
        .unwrap();
    drop(std::os::unix::net::UnixListener::bind(upper.join("socket")).unwrap());
}

fn sealed(store: &Store, parent: Option<&ChainId>) -> ChainId {
    let upper = store.layers().stage_upper(parent).unwrap();
    fill(&upper.path());
    let staged = upper.seal().unwrap();
    store.layers().commit_pending(parent, staged).unwrap()
}

#[test]
fn an_upper_directory_becomes_a_layer_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("d")).unwrap();
    let base = put(&store, None, &archive(&[("gone", What::File(b"x")), ("dir", What::Dir(0o750))])).unwrap();
    let chain = sealed(&store, Some(&base));
    let bytes = read_back(&store, &chain);
    let mut names: Vec<String> = Vec::new();
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        names.push(entry.unwrap().path().unwrap().display().to_string());
    }
    assert_eq!(names, ["dir/", "dir/file", ".wh.gone", "link", "second"], "the socket is left out");
    // The same layer, by the long way.
    let other = Store::open(&dir.path().join("other")).unwrap();
    let parent = put(&other, None, &archive(&[("gone", What::File(b"x")), ("dir", What::Dir(0o750))])).unwrap();
    assert_eq!(put(&other, Some(&parent), &bytes).unwrap(), chain);
    let empty = store.layers().stage_upper(Some(&chain)).unwrap().seal().unwrap();
    assert_eq!((empty.size, empty.tar_size), (0, 1024));
    assert_eq!(empty.diff_id.hex(), "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef");
    drop(empty);
    assert_clean(&store);
}

#[test]
fn a_pending_layer_is_as_good_as_any_until_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("d");
    let kept = {
        let store = Store::open(&root).unwrap();
        let base = put(&store, None, &archive(&[("gone", What::File(b"x"))])).unwrap();
        let kept = sealed(&store, Some(&base));
        store.layers().flush().unwrap();
        let chain = sealed(&store, Some(&kept));
        let layers = store.layers();
        assert_eq!(layers.lower_dirs(&chain).unwrap().len(), 3);
        assert_eq!(layers.list().unwrap().len(), 3);
        assert!(matches!(layers.remove(&kept), Err(StoreError::LayerInUse(..))));
        assert!(layers.collect(&[]).unwrap().is_empty(), "who made it will hold it");
        layers.flush().unwrap();
        assert!(layers.collect(&[]).unwrap().is_empty(), "who made it may be about to hold it");
        layers.flush().unwrap();
        assert_eq!(layers.collect(&[kept]).unwrap(), [chain]);
        assert!(layers.get(&chain).unwrap().is_none());
        sealed(&store, Some(&kept));
        kept
    };
    // The process ended without a flush.
    let store = Store::open(&root).unwrap();
    assert!(store.layers().get(&kept).unwrap().is_some());
    assert_eq!(store.layers().list().unwrap().len(), 2);
    assert_clean(&store);
}

#[test]
fn a_durable_layer_takes_the_pending_ones_below_it_along() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("d");
    let top = {
        let store = Store::open(&root).unwrap();
        let pending = sealed(&store, None);
        put(&store, Some(&pending), &archive(&[("a", What::File(b"x"))])).unwrap()
    };
    let store = Store::open(&root).unwrap();
    assert_eq!(store.layers().lower_dirs(&top).unwrap().len(), 2);
    assert_clean(&store);
}

#[test]
fn a_layer_is_put_on_top_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("d")).unwrap();
    let base = put(&store, None, &archive(&[("gone", What::File(b"x"))])).unwrap();
    let alone = sealed(&store, None);
    let bytes = read_back(&store, &alone);
    let both = store.layers().restack(&alone, Some(&base)).unwrap();
    assert_eq!(both, ChainId::of(Some(&base), alone.digest()));
    assert!(read_back(&store, &both) == bytes);
    assert_eq!(store.layers().lower_dirs(&both).unwrap().len(), 2);
    store.layers().flush().unwrap();
    store.layers().flush().unwrap();
    assert_eq!(store.layers().collect(&[both]).unwrap(), [alone]);
    assert!(read_back(&store, &both) == bytes);
    assert_clean(&store);
}

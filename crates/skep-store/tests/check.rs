//! Damage is found, and mended by replacing; what nothing knows is found; the database gives its room back.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Cursor;
use std::path::{Path, PathBuf};

use skep_store::{ChainId, DbError, StagedLayer, Store, StoreError, Stray, Table, UnpackOptions, Verdict};

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpacked(store: &Store, bytes: &[u8]) -> StagedLayer {
    store.layers().stage().unwrap().unpack(Cursor::new(bytes), &UnpackOptions::default()).unwrap()
}

fn put(store: &Store, parent: Option<&ChainId>, bytes: &[u8]) -> ChainId {
    store.layers().commit(parent, vec![unpacked(store, bytes)]).unwrap()[0]
}

fn fs(store: &Store, chain: &ChainId) -> PathBuf {
    store.layers().lower_dirs(chain).unwrap().remove(0)
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn count(path: &Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

#[test]
fn every_damage_of_a_blob_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let digest = store.blobs().put(b"a configuration", None).unwrap();
    let path = dir.path().join("blobs/sha256").join(digest.hex());
    assert_eq!(store.blobs().verify(&digest), Verdict::Good);
    flip(&path);
    assert!(matches!(store.blobs().verify(&digest), Verdict::Damaged(why) if why.contains("has the digest sha256:")));
    std::fs::write(&path, b"a conf").unwrap();
    assert!(matches!(store.blobs().verify(&digest), Verdict::Damaged(_)));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(store.blobs().verify(&digest), Verdict::Missing(_)));
    store.blobs().put(b"a configuration", Some(&digest)).unwrap();
    assert_eq!(store.blobs().verify(&digest), Verdict::Good);
}

#[test]
fn every_damage_of_a_layer_is_found_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let base = put(&store, None, &archive(&[("etc/base", b"below")]));
    let tar = archive(&[("etc/one", &[7; 10_000]), ("etc/two", b"2")]);
    let chain = put(&store, Some(&base), &tar);
    let above = put(&store, Some(&chain), &archive(&[("etc/three", b"3")]));
    let verdict = || store.layers().verify(&chain).unwrap();
    assert_eq!(verdict(), Verdict::Good);
    let damages: [&dyn Fn(&Path); 6] = [
        &|layer| flip(&layer.join("fs/etc/one")),
        &|layer| std::fs::write(layer.join("fs/etc/one"), b"cut").unwrap(),
        &|layer| std::fs::remove_file(layer.join("fs/etc/two")).unwrap(),
        &|layer| flip(&layer.join("split")),
        &|layer| std::fs::remove_file(layer.join("split")).unwrap(),
        &|layer| std::fs::remove_dir_all(layer).unwrap(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        damage(fs(&store, &chain).parent().unwrap());
        assert_ne!(verdict(), Verdict::Good, "damage {number}");
        store.layers().replace(&chain, unpacked(&store, &tar), false).unwrap();
        assert_eq!(verdict(), Verdict::Good, "damage {number}");
        assert_eq!(store.layers().lower_dirs(&above).unwrap().len(), 3);
        store.empty_trash().unwrap();
        assert_eq!(count(&dir.path().join("layers")), 3, "damage {number}");
    }
    let other = unpacked(&store, &archive(&[("other", b"")]));
    assert!(matches!(store.layers().replace(&chain, other, false), Err(StoreError::DiffIdMismatch { .. })));
    assert_eq!(store.strays().unwrap(), []);
    assert_eq!(count(&dir.path().join("staging")), 0);
}

#[test]
fn a_mended_layer_keeps_its_old_directory_while_containers_run_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let tar = archive(&[("one", b"1")]);
    let (chain, old) = {
        let store = Store::open(dir.path()).unwrap();
        let chain = put(&store, None, &tar);
        let old = fs(&store, &chain);
        store.layers().replace(&chain, unpacked(&store, &tar), true).unwrap();
        assert_ne!(fs(&store, &chain), old);
        (chain, old)
    };
    let store = Store::open(dir.path()).unwrap();
    assert!(old.join("one").exists(), "a restart of the daemon is no end of the containers");
    assert_eq!(store.strays().unwrap(), []);
    assert_eq!(store.layers().release_retired(&|used| *used == chain).unwrap(), 0);
    assert!(old.exists());
    assert_eq!(store.layers().release_retired(&|_| false).unwrap(), 1);
    assert!(!old.exists() && fs(&store, &chain).join("one").exists());
}

#[test]
fn what_nothing_knows_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put(&store, None, &archive(&[("one", b"1")]));
    std::fs::create_dir(dir.path().join("layers/lost")).unwrap();
    std::fs::write(dir.path().join("blobs/sha256/.half"), b"").unwrap();
    let (layer, blob) = (store.root().join("layers/lost"), store.root().join("blobs/sha256/.half"));
    assert_eq!(store.strays().unwrap(), [Stray::Layer(layer), Stray::Blob(blob)]);
}

const NOTES: Table<String, String> = Table::new("notes", 1);

#[test]
fn the_database_gives_back_what_deleted_records_had() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let empty = store.db().file_size().unwrap();
    let key = |number: u32| format!("{number:06}");
    store.db().write(|tx| (0..4000).try_for_each(|n| tx.put(&NOTES, &key(n), &"x".repeat(1000)))).unwrap();
    assert_eq!(store.db().compact_if_worth().unwrap(), 0, "it is all needed");
    let full = store.db().file_size().unwrap();
    store.db().write(|tx| (0..4000).try_for_each(|n| tx.remove(&NOTES, &key(n)).map(drop))).unwrap();
    let given_back = store.db().compact_if_worth().unwrap();
    assert_eq!(store.db().file_size().unwrap(), full - given_back);
    assert!(full - given_back <= empty, "{full} - {given_back} > {empty}");
    assert_eq!(store.db().compact_if_worth().unwrap(), 0);
    store.db().write(|tx| tx.put(&NOTES, &key(1), &"still works".to_owned())).unwrap();
    assert!(store.db().is_sound().unwrap());
}

#[test]
fn a_database_that_is_gone_does_not_take_what_containers_wrote() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let written = dir.path().join("containers/abc/rw/upper/precious");
    std::fs::create_dir_all(written.parent().unwrap()).unwrap();
    std::fs::write(&written, b"work of years").unwrap();
    let database = dir.path().join("meta.redb");
    std::fs::write(&database, b"").unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(
        matches!(error, StoreError::Db(DbError::Damaged { .. })) && error.to_string().contains("is empty"),
        "{error}"
    );
    assert!(written.exists());
    std::fs::remove_file(&database).unwrap();
    drop(Store::open(dir.path()).unwrap());
    let kept = dir.path().join("recovered/abc/rw/upper/precious");
    assert_eq!(std::fs::read(kept).unwrap(), b"work of years");
}

#[test]
fn a_truncated_database_is_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Store::open(dir.path()).unwrap();
        store.db().write(|tx| (0..500).try_for_each(|n| tx.put(&NOTES, &n.to_string(), &"x".repeat(500)))).unwrap();
    }
    let path = dir.path().join("meta.redb");
    let whole = std::fs::read(&path).unwrap();
    for keep in [100, 4096, whole.len() / 4, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..keep]).unwrap();
        let read = Store::open(dir.path()).and_then(|store| Ok(store.db().read(|tx| tx.all(&NOTES))?));
        match read {
            // Only free pages were cut.
            Ok(notes) => assert_eq!(notes.len(), 500, "cut to {keep} bytes"),
            Err(error) => assert!(error.to_string().contains("Stop the daemon, put back a copy"), "{error}"),
        }
    }
}

/// A file system of this size, until it is dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn new(size: &str) -> Small {
        let dir = tempfile::tempdir().unwrap();
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(status.success());
        Small(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_ends_nothing() {
    let small = Small::new("8m");
    let store = Store::open(&small.0.path().join("data")).unwrap();
    store.db().write(|tx| tx.put(&NOTES, &"kept".to_owned(), &"1".to_owned())).unwrap();
    store.db().write(|tx| tx.put(&NOTES, &"gone".to_owned(), &"x".repeat(20_000))).unwrap();
    let filler = small.0.path().join("filler");
    let stopped = std::io::copy(&mut std::io::repeat(1), &mut std::fs::File::create(&filler).unwrap()).unwrap_err();
    assert_eq!(stopped.kind(), std::io::ErrorKind::StorageFull);
    store.db().write(|tx| tx.remove(&NOTES, &"gone".to_owned())).unwrap();

    let error = store.blobs().put(&[1; 100_000], None).unwrap_err();
    assert!(error.to_string().ends_with("No space left on device (os error 28)"), "{error}");
    let staged = store
        .layers()
        .stage()
        .and_then(|staging| staging.unpack(Cursor::new(archive(&[("big", &[1; 500_000])])), &UnpackOptions::default()));
    assert_eq!(staged.unwrap_err().kind(), skep_types::ErrorKind::Exhausted);
    let mut failures = 0;
    for _ in 0..3 {
        let big = "x".repeat(2_000_000);
        if let Err(error) = store.db().write(|tx| tx.put(&NOTES, &"big".to_owned(), &big)) {
            assert_eq!(error.kind(), skep_types::ErrorKind::Exhausted, "{error}");
            failures += 1;
        }
    }
    assert_eq!(failures, 3);
    assert!(store.db().is_sound().unwrap());
    let kept = store.db().read(|tx| tx.get(&NOTES, &"kept".to_owned())).unwrap();
    assert_eq!(kept.as_deref(), Some("1"), "it can be read on a full disk");

    std::fs::remove_file(&filler).unwrap();
    store.db().write(|tx| tx.put(&NOTES, &"big".to_owned(), &"fits now".to_owned())).unwrap();
    store.blobs().put(&[1; 100_000], None).unwrap();
    store.empty_trash().unwrap();
    assert_eq!((count(&store.root().join("staging")), count(&store.root().join("trash"))), (0, 0));
}

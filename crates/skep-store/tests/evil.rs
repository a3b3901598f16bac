//! The corpus of hostile layers through the whole of unpacking: nothing is left of what is refused, and what is let in comes out again.
//! Bombs go off in a process of their own whose memory is limited.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Read;
use std::path::Path;

use skep_evil::Fate;
use skep_evil::canary::Canary;
use skep_evil::layers::Layer;
use skep_fs::apply::Limits;
use skep_store::{ChainId, Store, StoreError, UnpackOptions};

fn unpack(
    store: &Store,
    parent: Option<&ChainId>,
    stream: impl Read + Send,
    limits: Limits,
) -> Result<ChainId, StoreError> {
    let options = UnpackOptions { limits, ..UnpackOptions::default() };
    let staged = store.layers().stage()?.unpack(stream, &options)?;
    Ok(store.layers().commit(parent, vec![staged])?[0])
}

/// Nothing is left of what failed.
fn assert_clean(name: &str, store: &Store) {
    let count = |dir: &str| std::fs::read_dir(store.root().join(dir)).unwrap().count();
    assert_eq!(count("staging"), 0, "{name}");
    assert_eq!(count("layers"), store.layers().list().unwrap().len(), "{name}");
    store.empty_trash().unwrap();
    assert_eq!(count("trash"), 0, "{name}");
}

#[test]
fn layers_are_refused_or_come_out_as_they_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let canary = Canary::new(&dir.path().join("host"));
    let store = Store::open(&dir.path().join("data")).unwrap();
    for Layer { name, below, bytes, fate } in skep_evil::layers::all(canary.dir()) {
        let mut parent = None;
        for below in &below {
            parent = Some(unpack(&store, parent.as_ref(), below.as_slice(), Limits::default()).unwrap());
        }
        let result = unpack(&store, parent.as_ref(), bytes.as_slice(), Limits::default());
        fate.check(name, &result);
        if let Ok(chain) = result {
            let mut back = Vec::new();
            // Fails if the archive's digest isn't the one that it had.
            store.layers().tar_stream(&chain).unwrap().read_to_end(&mut back).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        assert_clean(name, &store);
        canary.check(name);
        store.layers().collect(&[]).unwrap();
    }
    assert_clean("all", &store);
}

/// What a bomb may cost, and what it costs when nothing stops it.
const LIMITS: Limits =
    Limits { entries: 10_000, bytes: 48 << 20, ratio: 200, ratio_from: 16 << 20, directories: 4 << 20 };
const BOMB: u64 = 192 << 20;
/// Bytes of address space for the process in which they go off: the program, threads, the window of zstd (128 MiB), and little else.
const MEMORY: u64 = 400 << 20;

#[test]
fn bombs_go_off_in_little_memory() {
    const CHILD: &str = "SKEP_TEST_BOMBS";
    if let Ok(dir) = std::env::var(CHILD) {
        return bombs(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let output = std::process::Command::new("prlimit")
        .arg(format!("--as={MEMORY}"))
        .arg(own)
        .args(["--exact", "bombs_go_off_in_little_memory", "--nocapture"])
        .env(CHILD, dir.path())
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn bombs(dir: &Path) {
    let store = Store::open(&dir.join("data")).unwrap();
    for skep_evil::bombs::Bomb { name, stream } in skep_evil::bombs::all(BOMB) {
        // Of empty members comes nothing, which is no archive and no harm.
        let fate = if name == "empty members of gzip" { Fate::Harmless } else { Fate::Refused };
        fate.check(name, &unpack(&store, None, stream, LIMITS));
        assert_clean(name, &store);
    }
}

#[test]
fn many_files_are_no_bomb() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let many = 20_000;
    unpack(&store, None, skep_evil::bombs::files(many), Limits::default()).unwrap();
    let few = Limits { entries: many - 1, ..Limits::default() };
    let error = unpack(&store, None, skep_evil::bombs::files(many), few).unwrap_err();
    assert_eq!(error.to_string(), "failed to register layer: the archive has more than 19999 entries");
    assert_clean("files", &store);
}

#[test]
fn limits_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let zeros = || skep_evil::bombs::zeros(4 << 20);
    let refused = |limits| unpack(&store, None, zeros(), limits).unwrap_err().to_string();
    let small = Limits { bytes: 1 << 20, ..Limits::default() };
    assert!(refused(small).contains("more than 1048576 bytes"), "{}", refused(small));
    // Nothing is compressed here.
    let plain = Limits { ratio: 2, ratio_from: 1 << 20, ..Limits::default() };
    unpack(&store, None, zeros(), plain).unwrap();
    let mut zipped = Vec::new();
    flate2::read::GzEncoder::new(zeros(), flate2::Compression::fast()).read_to_end(&mut zipped).unwrap();
    let error = unpack(&store, None, zipped.as_slice(), plain).unwrap_err().to_string();
    assert!(error.contains("more than 2 times larger"), "{error}");
    unpack(&store, None, zipped.as_slice(), Limits::default()).unwrap();
}

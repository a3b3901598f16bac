//! A stream put into a directory as a layer, and copied into a tree: nothing outside of both changes.
#![no_main]

use std::io::BufReader;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use skep_fs::Root;
use skep_fs::apply::{ExtractOptions, LayerTarget, Limits, apply_layer, extract};
use skep_fs::decode::Bounded;
use skep_fs::split::SplitWriter;

const LIMITS: Limits = Limits { entries: 200, bytes: 1 << 20, ratio: 200, ratio_from: 1 << 18, directories: 1 << 20 };

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    for name in ["layer", "tree"] {
        std::fs::create_dir(path(name)).expect("a directory");
    }
    std::fs::write(path("canary"), b"alive").expect("a file");
    let split = SplitWriter::new(std::fs::File::create(path("split")).expect("a file")).expect("a record");
    if let Ok(stream) = Bounded::new(data, LIMITS) {
        let root = Root::open(&path("layer")).expect("a root");
        let _ = apply_layer(BufReader::new(stream), &root, LayerTarget::new(split, path("kept")), LIMITS);
    }
    if let Ok(stream) = Bounded::new(data, LIMITS) {
        let options = ExtractOptions { limits: LIMITS, ..ExtractOptions::default() };
        let _ = extract(stream, &Root::open(&path("tree")).expect("a root"), Path::new("/"), &options);
    }
    let outside = std::fs::read_dir(dir.path()).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    for name in outside {
        assert!(["layer", "tree", "canary", "split", "kept"].iter().any(|known| name == **known), "{name:?}");
    }
    assert_eq!(std::fs::read(path("canary")).expect("a file"), b"alive");
});

//! What was applied, packed, applied and packed again is the same.
#![no_main]

use std::io::BufReader;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use skep_fs::Root;
use skep_fs::apply::{LayerTarget, Limits, apply_layer};
use skep_fs::pack::write_layer;
use skep_fs::split::SplitWriter;

const LIMITS: Limits = Limits { entries: 200, bytes: 1 << 20, ratio: 200, ratio_from: 1 << 18, directories: 1 << 20 };

fn round(data: &[u8], dir: &Path) -> Option<Vec<u8>> {
    std::fs::create_dir_all(dir.join("fs")).ok()?;
    let root = Root::open(&dir.join("fs")).ok()?;
    let split = SplitWriter::new(std::fs::File::create(dir.join("split")).ok()?).ok()?;
    apply_layer(BufReader::new(data), &root, LayerTarget::new(split, dir.join("kept")), LIMITS).ok()?;
    let mut packed = Vec::new();
    write_layer(&root, &|_| true, &mut packed).ok()?;
    Some(packed)
}

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(first) = round(data, &dir.path().join("1")) else { return };
    // Names that begin as whiteouts do are read as such the second time.
    if first.windows(4).any(|part| part == b".wh.") {
        return;
    }
    if let Some(second) = round(&first, &dir.path().join("2")) {
        assert!(first == second, "another archive came out");
    }
});

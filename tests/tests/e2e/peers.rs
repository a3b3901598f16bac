//! Where the programs of others are that tests use.

use std::path::{Path, PathBuf};

/// The folder that cargo builds into, as `cargo xtask` sees it.
pub(crate) fn target() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    top.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// A program that `cargo xtask peers` has fetched.
pub(crate) fn fetched(program: &str) -> Option<PathBuf> {
    let peers = target().join("peers");
    let path = peers.join("tree/usr/bin").join(program);
    (peers.join(".complete").exists() && path.exists()).then_some(path)
}

/// A program of this machine.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

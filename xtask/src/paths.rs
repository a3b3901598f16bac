//! Where things are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The top of the repository.
pub(crate) fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A directory for what is downloaded or made once and used by every checkout.
pub(crate) fn cache(part: &str) -> Result<PathBuf> {
    let base = match (std::env::var_os("SKEP_CACHE"), std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(own), ..) => PathBuf::from(own),
        (None, Some(cache), _) => PathBuf::from(cache).join("skep"),
        (None, None, home) => PathBuf::from(home.unwrap_or_else(|| "/root".into())).join(".cache/skep"),
    };
    let dir = base.join(part);
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(dir)
}

/// The folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top().join("target"), PathBuf::from)
}

/// A program of the release build, or of the folder that SKEP_BIN_DIR names.
pub(crate) fn release(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("SKEP_BIN_DIR") {
        return PathBuf::from(folder).join(name);
    }
    target().join("x86_64-unknown-linux-gnu/release").join(name)
}

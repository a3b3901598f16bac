//! What the fuzz targets call: parsers of this module that are nobody else's business. They must return, whatever they get.

use std::io::Write;

use skep_fs::apply::Limits;

use super::config::{ConfigFile, ContainerDefaults};
use super::{archive, changes};

/// An image's configuration.
pub fn config(bytes: &[u8]) {
    if let Ok(file) = ConfigFile::parse(bytes) {
        let _ = (file.platform(), file.defaults());
        // What is read can be written and read again.
        let text = serde_json::to_vec(&file).unwrap_or_default();
        assert!(ConfigFile::parse(&text).is_ok(), "{}", String::from_utf8_lossy(&text));
    }
}

/// Dockerfile instructions that change a configuration, one a line.
pub fn change(text: &str) {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let _ = changes::apply(&mut ContainerDefaults::default(), &lines);
}

/// An archive of images, in an unnamed file below the directory for temporary ones.
pub fn load(bytes: &[u8]) {
    let spooled = super::load::nameless_file(&std::env::temp_dir())
        .and_then(|file| archive::spool(bytes, file, Limits { bytes: 64 << 20, ..Limits::default() }));
    if let Ok(mut file) = spooled {
        let _ = file.flush();
        let _ = archive::read(file, None, &|_| Ok(()));
    }
}

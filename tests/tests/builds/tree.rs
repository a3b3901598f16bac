//! The files of an image, as its layers make them: applied here, by code that is no part of the project.

use std::collections::BTreeMap;
use std::io::Read;

use skep_testkit::sha256;

use crate::project::TIME;

/// Times before this one (1 January 2026) are not those of a build.
const LONG_AGO: u64 = 1_767_225_600;

/// Texts of up to so many bytes are recorded, for whoever reads about a difference.
const SHORT: usize = 160;

/// A tree of files by path, without a leading slash.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tree {
    files: BTreeMap<String, File>,
    inodes: usize,
}

/// A name in a tree.
#[derive(Debug, Clone)]
struct File {
    /// Names with the same number are hard links of each other.
    inode: usize,
    directory: bool,
    /// All but the name.
    facts: String,
}

impl Tree {
    /// Puts a layer on top.
    pub(crate) fn apply(&mut self, layer: &[u8]) {
        self.remove_whiteouts(layer);
        let mut archive = tar::Archive::new(layer);
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = clean(&entry.path_bytes());
            let base = path.rsplit('/').next().unwrap_or_default();
            if base.starts_with(".wh.") || path.is_empty() || entry.header().entry_type().is_pax_global_extensions() {
                continue;
            }
            let file = match entry.header().entry_type() {
                tar::EntryType::Link => {
                    let target = clean(&entry.link_name_bytes().unwrap());
                    let linked = self.files.get(&target);
                    linked.unwrap_or_else(|| panic!("{path} is a hard link to {target}, which is not there")).clone()
                }
                kind => {
                    self.inodes += 1;
                    File { inode: self.inodes, directory: kind.is_dir(), facts: facts(&mut entry) }
                }
            };
            self.insert(path, file);
        }
    }

    fn remove_whiteouts(&mut self, layer: &[u8]) {
        let mut archive = tar::Archive::new(layer);
        for entry in archive.entries().unwrap() {
            let path = clean(&entry.unwrap().path_bytes());
            let (folder, base) = path.rsplit_once('/').unwrap_or(("", &path));
            let join = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            if base == ".wh..wh..opq" {
                self.remove_below(folder);
            } else if let Some(name) = base.strip_prefix(".wh.") {
                let path = join(name);
                self.remove_below(&path);
                self.files.remove(&path);
            }
        }
    }

    fn insert(&mut self, path: String, file: File) {
        if !file.directory {
            self.remove_below(&path);
        }
        self.files.insert(path, file);
    }

    fn remove_below(&mut self, folder: &str) {
        if folder.is_empty() {
            return self.files.clear();
        }
        let prefix = format!("{folder}/");
        let below =
            self.files.range(prefix.clone()..).map(|(path, _)| path).take_while(|path| path.starts_with(&prefix));
        let below: Vec<String> = below.cloned().collect();
        below.iter().for_each(|path| drop(self.files.remove(path)));
    }

    /// A line for each name, in order, but for those below an ignored path.
    pub(crate) fn lines(&self, ignored: &[String]) -> Vec<String> {
        let mut first: BTreeMap<usize, &str> = BTreeMap::new();
        let mut lines = Vec::new();
        for (path, file) in &self.files {
            if ignored.iter().any(|ignored| path == ignored || path.starts_with(&format!("{ignored}/"))) {
                continue;
            }
            match first.get(&file.inode) {
                Some(other) => lines.push(format!("{path} {} ={other}", file.facts)),
                None => lines.push(format!("{path} {}", file.facts)),
            }
            first.entry(file.inode).or_insert(path);
        }
        lines
    }
}

/// `./a/b/` is `a/b`.
fn clean(path: &[u8]) -> String {
    let text: String = path.iter().fold(String::new(), |mut text, &byte| {
        match std::char::from_u32(byte.into()) {
            Some(character) if (0x21..0x7f).contains(&byte) && byte != b'\\' => text.push(character),
            _ => text.push_str(&format!("\\{byte:02x}")),
        }
        text
    });
    let parts = text.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
}

/// Kind, mode, owner, size and digest or target, extended attributes, and the time, if it is not that of the build.
fn facts(entry: &mut tar::Entry<'_, &[u8]>) -> String {
    let header = entry.header();
    let kind = match header.entry_type() {
        tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => 'f',
        tar::EntryType::Directory => 'd',
        tar::EntryType::Symlink => 'l',
        tar::EntryType::Char => 'c',
        tar::EntryType::Block => 'b',
        tar::EntryType::Fifo => 'p',
        other => panic!("an entry of type {other:?}"),
    };
    let mut facts =
        format!("{kind} {:o} {}:{}", header.mode().unwrap() & 0o7777, header.uid().unwrap(), header.gid().unwrap());
    let device = matches!(kind, 'c' | 'b').then(|| (header.device_major(), header.device_minor()));
    if let Some((Ok(Some(major)), Ok(Some(minor)))) = device {
        facts.push_str(&format!(" {major}:{minor}"));
    }
    let time = header.mtime().unwrap();
    let mut attributes = Vec::new();
    for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
        let extension = extension.unwrap();
        if let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") {
            attributes.push(format!("{}={}", String::from_utf8_lossy(name), clean_value(extension.value_bytes())));
        }
    }
    attributes.sort();
    if kind == 'l' {
        facts.push_str(&format!(" ->{}", String::from_utf8_lossy(&entry.link_name_bytes().unwrap())));
    }
    if kind == 'f' {
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        facts.push_str(&format!(" {}", content(&bytes)));
    }
    for attribute in attributes {
        facts.push_str(&format!(" {attribute}"));
    }
    match time {
        TIME => facts.push_str(" @context"),
        time if time < LONG_AGO => facts.push_str(&format!(" @{time}")),
        _ => {} // when it was built
    }
    facts
}

/// A short text itself; otherwise the size and the digest.
fn content(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= SHORT => format!("{text:?}"),
        _ => format!("{} {}", bytes.len(), &sha256(bytes)["sha256:".len()..][..16]),
    }
}

fn clean_value(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| if byte.is_ascii_graphic() { char::from(*byte).to_string() } else { format!("\\{byte:02x}") })
        .collect()
}

#[test]
fn layers_are_applied() {
    let layer = |entries: &[(&str, tar::EntryType, &str)]| {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(TIME);
            header.set_size(0);
            match kind {
                tar::EntryType::Link => archive.append_link(&mut header, path, content).unwrap(),
                _ => {
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, path, content.as_bytes()).unwrap();
                }
            }
        }
        archive.into_inner().unwrap()
    };
    use tar::EntryType::{Directory, Link, Regular};
    let mut tree = Tree::default();
    tree.apply(&layer(&[
        ("d/", Directory, ""),
        ("d/a", Regular, "x"),
        ("d/b", Link, "d/a"),
        ("e/", Directory, ""),
        ("e/gone", Regular, ""),
        ("f/", Directory, ""),
        ("f/below", Regular, ""),
    ]));
    tree.apply(&layer(&[
        ("d/.wh.a", Regular, ""),
        ("e/new", Regular, ""),
        ("e/.wh..wh..opq", Regular, ""),
        ("f", Regular, "now a file"),
        ("ignored/x", Regular, ""),
    ]));
    let lines = tree.lines(&["ignored".to_owned()]);
    let names: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["d", "d/b", "e", "e/new", "f"]);
    assert_eq!(lines[1], "d/b f 644 0:0 \"x\" @context");
}

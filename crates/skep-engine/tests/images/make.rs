//! Images made by hand, from the machine's static busybox.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use skep_registry::digest_of;
use skep_types::Digest;

/// One file of a layer.
pub(crate) enum File<'a> {
    Dir(&'a str),
    Plain(&'a str, &'a [u8]),
    Link(&'a str, &'a str),
}

/// A layer's archive.
pub(crate) fn layer(files: &[File<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(0o755);
        match file {
            File::Dir(path) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                builder.append_data(&mut header, path, std::io::empty()).expect("a directory");
            }
            File::Plain(path, content) => {
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, path, *content).expect("a file");
            }
            File::Link(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, path, target).expect("a link");
            }
        }
    }
    builder.into_inner().expect("an archive")
}

/// An image with its layers.
pub(crate) struct Made {
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
}

impl Made {
    pub(crate) fn new(architecture: &str, layers: Vec<Vec<u8>>) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|l| digest_of(l).to_string()).collect();
        let mut history: Vec<_> =
            layers.iter().map(|_| json!({"created": "2024-01-02T03:04:05Z", "created_by": "ADD files"})).collect();
        history.push(json!({"created": "2024-01-02T03:04:06Z", "created_by": "CMD sh", "empty_layer": true}));
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": "2024-01-02T03:04:06Z",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": {"made": "by hand"}, "ExposedPorts": {"80/tcp": {}}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        Made { config: config.to_string().into_bytes(), layers }
    }

    /// busybox in two layers; `salt` makes it an image of its own.
    pub(crate) fn busybox(salt: &str) -> Self {
        Self::new("amd64", busybox_layers(salt))
    }

    pub(crate) fn id(&self) -> Digest {
        digest_of(&self.config)
    }

    /// As `docker save` did before version 25.
    pub(crate) fn archive(&self, tags: &[&str]) -> Vec<u8> {
        let names: Vec<String> = (0..self.layers.len()).map(|n| format!("{n}/layer.tar")).collect();
        let manifest = json!([{"Config": "config.json", "RepoTags": tags, "Layers": names}]).to_string();
        let mut files = vec![("manifest.json", manifest.as_bytes()), ("config.json", self.config.as_slice())];
        files.extend(names.iter().map(String::as_str).zip(self.layers.iter().map(Vec::as_slice)));
        archive(&files)
    }

    /// Pushes it by skopeo.
    pub(crate) fn push(&self, dir: &Path, target: &str, options: &[&str]) {
        let file = self.write(dir);
        let mut arguments = vec!["copy", "--dest-tls-verify=false"];
        arguments.extend(options);
        let (source, target) = (format!("docker-archive:{}", file.display()), format!("docker://{target}"));
        arguments.extend([source.as_str(), target.as_str()]);
        skopeo(&arguments);
    }

    /// Writes its archive into a directory.
    pub(crate) fn write(&self, dir: &Path) -> PathBuf {
        let file = dir.join(format!("{}.tar", self.id().short()));
        std::fs::write(&file, self.archive(&["made:1"])).expect("write");
        file
    }
}

pub(crate) fn busybox_layers(salt: &str) -> Vec<Vec<u8>> {
    let busybox = std::fs::read("/bin/busybox").expect("the package busybox-static");
    vec![
        layer(&[File::Dir("bin/"), File::Plain("bin/busybox", &busybox), File::Link("bin/sh", "busybox")]),
        layer(&[File::Dir("etc/"), File::Plain("etc/salt", salt.as_bytes()), File::Plain("etc/.wh.gone", b"")]),
    ]
}

/// A tar archive of files; names are taken as they are.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let slot = &mut header.as_gnu_mut().expect("a GNU header").name;
        slot[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).expect("append");
    }
    builder.into_inner().expect("an archive")
}

pub(crate) fn skopeo(arguments: &[&str]) -> String {
    run(Command::new("skopeo").arg("--insecure-policy").args(arguments))
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

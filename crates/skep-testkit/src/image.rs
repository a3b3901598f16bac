//! Images made here, from Debian's busybox-static: the smallest thing that has a shell. They can be loaded from an archive as
//! `docker save` writes it, or pushed to a registry.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

/// An image with its parts in memory.
#[derive(Debug, Clone)]
pub struct Image {
    /// Such as `busybox:latest`.
    pub name: String,
    /// The configuration, as the bytes that its digest is of.
    pub config: Vec<u8>,
    /// Uncompressed layers, lowest first.
    pub layers: Vec<Vec<u8>>,
}

/// An image that is being made.
#[derive(Debug)]
pub struct ImageBuilder {
    name: String,
    settings: Value,
    architecture: String,
    layers: Vec<Vec<u8>>,
}

impl Image {
    /// busybox with all its applets, named `busybox:latest`; made once per process.
    pub fn busybox() -> &'static Image {
        static IMAGE: OnceLock<Image> = OnceLock::new();
        IMAGE.get_or_init(|| ImageBuilder::new("busybox:latest").build())
    }

    /// The id: the digest of the configuration.
    pub fn id(&self) -> String {
        sha256(&self.config)
    }

    /// The digest of a layer, the lowest being 0.
    pub fn layer_digest(&self, layer: usize) -> String {
        sha256(&self.layers[layer])
    }

    /// The archive that `load` takes.
    pub fn archive(&self) -> Vec<u8> {
        let layer_name = |layer: &[u8]| format!("{}/layer.tar", sha256(layer).trim_start_matches("sha256:"));
        let config_name = format!("{}.json", self.id().trim_start_matches("sha256:"));
        let names: Vec<String> = self.layers.iter().map(|layer| layer_name(layer)).collect();
        let manifest = json!([{"Config": config_name, "RepoTags": [self.name], "Layers": names}]);
        let mut archive = Archive::new();
        archive.file(&config_name, 0o644, &self.config);
        for (name, layer) in names.iter().zip(&self.layers) {
            archive.file(name, 0o644, layer);
        }
        archive.file("manifest.json", 0o644, manifest.to_string().as_bytes());
        archive.finish()
    }

    /// The archive as a file that several tests share; made by the first of them, in whichever process.
    pub fn archive_file(&self) -> PathBuf {
        let dir = std::env::temp_dir().join("skep-test-images");
        std::fs::create_dir_all(&dir).expect("a directory for images");
        let file = dir.join(format!("{}.tar", self.id().trim_start_matches("sha256:")));
        let lock = std::fs::File::create(dir.join("lock")).expect("a lock file");
        flock(&lock, FlockOperation::LockExclusive).expect("a lock");
        if !file.exists() {
            let partial = file.with_extension("partial");
            std::fs::write(&partial, self.archive()).expect("write an image");
            std::fs::rename(&partial, &file).expect("rename an image");
        }
        file
    }
}

impl ImageBuilder {
    /// An image with busybox in it.
    pub fn new(name: &str) -> ImageBuilder {
        let settings =
            json!({"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]});
        ImageBuilder { layers: vec![busybox_layer().to_vec()], ..ImageBuilder::empty(name).settings(settings) }
    }

    /// An image without a layer.
    pub fn empty(name: &str) -> ImageBuilder {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        ImageBuilder {
            name: name.to_owned(),
            settings: json!({}),
            architecture: architecture.to_owned(),
            layers: Vec::new(),
        }
    }

    /// The `config` of the image's configuration: `Cmd`, `Env`, `User` and so on; what is not named stays.
    #[must_use]
    pub fn settings(mut self, settings: Value) -> ImageBuilder {
        if let (Some(have), Value::Object(more)) = (self.settings.as_object_mut(), settings) {
            have.extend(more);
        }
        self
    }

    /// An architecture that may not be the machine's.
    #[must_use]
    pub fn architecture(mut self, architecture: &str) -> ImageBuilder {
        self.architecture = architecture.to_owned();
        self
    }

    /// A layer on top, with files of a mode and content; directories are implied.
    #[must_use]
    pub fn layer(mut self, files: &[(&str, u32, &[u8])]) -> ImageBuilder {
        let mut archive = Archive::new();
        for (name, mode, content) in files {
            archive.file(name, *mode, content);
        }
        self.layers.push(archive.finish());
        self
    }

    /// A layer on top, as a finished tar archive.
    #[must_use]
    pub fn raw_layer(mut self, layer: Vec<u8>) -> ImageBuilder {
        self.layers.push(layer);
        self
    }

    /// The image.
    pub fn build(self) -> Image {
        let digests: Vec<String> = self.layers.iter().map(|layer| sha256(layer)).collect();
        let history: Vec<Value> = digests.iter().map(|_| json!({"created_by": "skep-testkit"})).collect();
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": self.settings,
            "rootfs": {"type": "layers", "diff_ids": digests},
            "history": history,
        });
        Image { name: self.name, config: config.to_string().into_bytes(), layers: self.layers }
    }
}

/// `sha256:` and the digest in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in digest(&SHA256, bytes).as_ref() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn busybox_layer() -> &'static [u8] {
    static LAYER: OnceLock<Vec<u8>> = OnceLock::new();
    LAYER.get_or_init(|| {
        let busybox = Path::new("/bin/busybox");
        let program = std::fs::read(busybox).expect("Debian's busybox-static (cargo xtask deps)");
        let applets = std::process::Command::new(busybox).arg("--list").output().expect("busybox --list");
        let mut archive = Archive::new();
        for (directory, mode) in [
            ("bin", 0o755),
            ("dev", 0o755),
            ("etc", 0o755),
            ("home", 0o755),
            ("proc", 0o755),
            ("root", 0o700),
            ("sys", 0o755),
            ("tmp", 0o1777),
            ("usr", 0o755),
            ("usr/bin", 0o755),
            ("usr/sbin", 0o755),
            ("var", 0o755),
            ("var/tmp", 0o1777),
        ] {
            archive.directory(directory, mode);
        }
        archive.file("bin/busybox", 0o755, &program);
        for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
            archive.link(&format!("bin/{applet}"), "busybox");
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
        archive.file("etc/passwd", 0o644, passwd.as_bytes());
        archive.file("etc/group", 0o644, b"root:x:0:\nuser:x:1000:\nextra:x:2000:user\nnogroup:x:65534:\n");
        archive.finish()
    })
}

/// A tar archive with fixed times and owners, so that the same content is the same bytes.
struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Archive {
        Archive(tar::Builder::new(Vec::new()))
    }

    fn entry(&mut self, name: &str, kind: tar::EntryType, mode: u32, content: &[u8]) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(name).expect("a short name");
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        header
    }

    fn append(&mut self, mut header: tar::Header, content: &[u8]) {
        header.set_cksum();
        self.0.append(&header, content).expect("writing to memory");
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        let header = self.entry(name, tar::EntryType::Regular, mode, content);
        self.append(header, content);
    }

    fn directory(&mut self, name: &str, mode: u32) {
        let header = self.entry(&format!("{name}/"), tar::EntryType::Directory, mode, &[]);
        self.append(header, &[]);
    }

    fn link(&mut self, name: &str, target: &str) {
        let mut header = self.entry(name, tar::EntryType::Symlink, 0o777, &[]);
        header.set_link_name(target).expect("a short name");
        self.append(header, &[]);
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("writing to memory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_has_the_same_id() {
        let image =
            || ImageBuilder::new("a:b").layer(&[("etc/x", 0o600, b"x")]).settings(json!({"User": "1000"})).build();
        assert_eq!(image().id(), image().id());
        assert_ne!(image().id(), Image::busybox().id());
        assert_eq!(sha256(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let config: Value = serde_json::from_slice(&image().config).unwrap();
        assert_eq!(
            (config["config"]["Cmd"][0].as_str(), config["config"]["User"].as_str()),
            (Some("sh"), Some("1000"))
        );
    }
}

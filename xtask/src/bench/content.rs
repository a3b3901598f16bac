//! Images to pull: made once, below `target/bench-images`, and served by a registry from there.
//!
//! What is in them is like what is in real ones: many small texts, some programs, a few large files, of which about three fifths
//! disappear when compressed. The same bytes come out each time.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

/// Changed when other images are made.
const VERSION: &str = "1";
const MIB: usize = 1 << 20;

/// An image of the set.
pub(super) struct Sample {
    /// Its repository and tag.
    pub(super) name: String,
    layers: usize,
    /// Uncompressed, of each layer.
    bytes: usize,
}

/// The images, and where their registry keeps them.
pub(super) struct Samples {
    pub(super) tall: Sample,
    pub(super) wide: Sample,
    pub(super) small: Vec<Sample>,
    pub(super) folder: PathBuf,
}

/// Debian's docker-registry over a folder.
pub(super) struct Registry {
    pub(super) address: String,
    server: Child,
}

impl Registry {
    pub(super) fn start(store: &Path) -> Result<Registry> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        fs::create_dir_all(store)?;
        let config = store.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            store.display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().context("the package docker-registry is needed")?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(&address).is_err() {
            ensure!(Instant::now() < deadline, "the registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Registry { address, server })
    }

    pub(super) fn name(&self, sample: &Sample) -> String {
        format!("{}/{}", self.address, sample.name)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Samples {
    /// Makes what is missing.
    pub(super) fn prepare(target: &Path) -> Result<Samples> {
        let folder = target.join("bench-images");
        let sample = |name: String, layers, bytes| Sample { name, layers, bytes };
        let samples = Samples {
            tall: sample("bench/tall:1".to_owned(), 10, 30 * MIB),
            wide: sample("bench/wide:1".to_owned(), 1, 1024 * MIB),
            small: (0..50).map(|n| sample(format!("bench/small-{n}:1"), 1, MIB)).collect(),
            folder,
        };
        let done = samples.folder.join(format!(".complete-{VERSION}"));
        if !done.exists() {
            eprintln!("making images to pull in {}", samples.folder.display());
            if samples.folder.exists() {
                fs::remove_dir_all(&samples.folder)?; // of another version, or of a run that broke off
            }
            let registry = Registry::start(&samples.store())?;
            for (seed, sample) in (1..).zip(samples.all()) {
                make(sample, &samples.folder, &registry, seed)?;
            }
            fs::write(&done, "")?;
        }
        Ok(samples)
    }

    pub(super) fn store(&self) -> PathBuf {
        self.folder.join("registry")
    }

    /// The compressed layers of an image.
    pub(super) fn layers(&self, sample: &Sample) -> Vec<PathBuf> {
        let layout = self.folder.join(sample.name.replace(['/', ':'], "-"));
        (0..sample.layers).map(|number| layout.join(format!("layer-{number}"))).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Sample> {
        [&self.tall, &self.wide].into_iter().chain(&self.small)
    }
}

/// Makes an image as a directory that skopeo reads, and stores it in the registry.
fn make(sample: &Sample, folder: &Path, registry: &Registry, seed: u64) -> Result<()> {
    let layout = folder.join(sample.name.replace(['/', ':'], "-"));
    fs::create_dir_all(&layout)?;
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut descriptors, mut diff_ids) = (Vec::new(), Vec::new());
    for number in 0..sample.layers {
        let tree = tempfile::Builder::new().prefix("skep-bench-tree-").tempdir_in(folder)?;
        fill(tree.path(), number, sample.bytes, &mut random)?;
        let archive = layout.join(format!("layer-{number}.tar"));
        let tar = ["--sort=name", "--mtime=@1700000000", "--owner=0", "--group=0", "--numeric-owner", "-cf"];
        run(Command::new("tar").args(tar).arg(&archive).arg("-C").arg(tree.path()).arg("."))?;
        diff_ids.push(digest(&archive)?);
        run(Command::new("gzip").args(["-n", "-6"]).arg(&archive))?;
        let compressed = layout.join(format!("layer-{number}"));
        fs::rename(layout.join(format!("layer-{number}.tar.gz")), &compressed)?;
        let media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let digest = digest(&compressed)?;
        std::os::unix::fs::symlink(format!("layer-{number}"), layout.join(digest.trim_start_matches("sha256:")))?;
        descriptors
            .push(json!({ "mediaType": media_type, "digest": digest, "size": fs::metadata(&compressed)?.len() }));
    }
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
    let config = json!({ "architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs }).to_string();
    let file = layout.join("config");
    fs::write(&file, &config)?;
    let config_digest = digest(&file)?;
    fs::rename(&file, layout.join(config_digest.trim_start_matches("sha256:")))?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json", "digest": config_digest, "size": config.len(),
        },
        "layers": descriptors,
    });
    fs::write(layout.join("manifest.json"), manifest.to_string())?;
    fs::write(layout.join("version"), "Directory Transport Version: 1.1\n")?;
    let from = format!("dir:{}", layout.display());
    let to = format!("docker://{}", registry.name(sample));
    run(Command::new("skopeo").args(["copy", "-q", "--insecure-policy", "--dest-tls-verify=false", &from, &to]))
}

/// Fills a directory with files.
fn fill(tree: &Path, number: usize, bytes: usize, random: &mut Random) -> Result<()> {
    let mut left = bytes;
    let mut count = 0;
    while left > 0 {
        let size = match random.below(1000) {
            0..850 => 200 + random.below(12_000),
            850..985 => 12_000 + random.below(200_000),
            _ => MIB + random.below(6 * MIB),
        };
        let size = size.min(left);
        left -= size;
        let dir = tree.join(format!("opt/layer{number}/part{}/dir{}", count / 400, count / 20 % 20));
        fs::create_dir_all(&dir)?;
        let mut file = std::io::BufWriter::new(fs::File::create(dir.join(format!("file{count}")))?);
        if size < 12_000 { text(&mut file, size, random) } else { program(&mut file, size, random) }?;
        file.flush()?;
        count += 1;
    }
    Ok(())
}

fn text(out: &mut impl Write, size: usize, random: &mut Random) -> Result<()> {
    const WORDS: [&str; 16] = [
        "the",
        "configuration",
        "of",
        "package",
        "return",
        "if",
        "copyright",
        "value",
        "license",
        "default",
        "struct",
        "option",
        "and",
        "version",
        "include",
        "static",
    ];
    let mut line = String::new();
    while line.len() < size {
        let number = random.below(64);
        match WORDS.get(number) {
            Some(word) => line.push_str(word),
            None => line.push_str(&format!("{number:x}{}", random.below(5000))),
        }
        line.push(if random.below(9) == 0 { '\n' } else { ' ' });
    }
    Ok(out.write_all(&line.as_bytes()[..size])?)
}

/// Something between machine code and tables: runs that repeat and runs that don't.
fn program(out: &mut impl Write, size: usize, random: &mut Random) -> Result<()> {
    let mut left = size;
    let mut block = [0u8; 64];
    while left > 0 {
        if random.below(5) < 2 {
            for word in block.chunks_exact_mut(8) {
                word.copy_from_slice(&random.next().to_le_bytes());
            }
        } else if random.below(2) == 0 {
            block.rotate_left(8);
            block[0] = u8::try_from(random.below(256))?;
        }
        let count = left.min(block.len());
        out.write_all(&block[..count])?;
        left -= count;
    }
    Ok(())
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % end
    }
}

fn digest(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(file).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(format!("sha256:{}", text.split(' ').next().context("sha256sum gave nothing")?.trim_start_matches('\\')))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

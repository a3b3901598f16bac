//! Builds for other machines: steps that run are emulated by an interpreter that the kernel is told of (binfmt_misc).
//!
//! Emulator and busybox come from Debian, by name, into a folder of the tests' own. The kernel has one list of interpreters for all: the
//! scenario adds to it what is not there, and takes that away again.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use skep_testkit::{Engine, EngineKind, ImageBuilder, Outcome};

use super::build_clients::Docker;
use super::peers;
use super::project::Project;

/// Where the kernel's list of interpreters is mounted.
const LIST: &str = "/proc/sys/fs/binfmt_misc";
const NAME: &str = "qemu-aarch64";
/// Programs for 64 bit ARM, by the first bytes of their files. `F`: the interpreter is opened here and now, for containers that have none.
const MAGIC: &str = r"M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";

/// Packages, unpacked.
struct Fetched(PathBuf);

impl Fetched {
    /// None if no packages can be had.
    fn find() -> Option<Fetched> {
        let folder = peers::target().join("emulator");
        std::fs::create_dir_all(&folder).unwrap();
        let lock = std::fs::File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let (tree, done) = (folder.join("tree"), folder.join("complete"));
        if !done.exists() {
            fetch(&folder, &tree)?;
            std::fs::write(done, "").unwrap();
        }
        Some(Fetched(tree))
    }

    fn emulator(&self) -> PathBuf {
        self.0.join("usr/bin/qemu-aarch64-static")
    }

    fn busybox(&self) -> Vec<u8> {
        let found =
            ["bin/busybox", "usr/bin/busybox"].map(|path| self.0.join(path)).into_iter().find(|path| path.exists());
        std::fs::read(found.unwrap()).unwrap()
    }
}

/// Fetches through apt, with lists of its own: those of the machine know nothing of another architecture.
fn fetch(folder: &Path, tree: &Path) -> Option<()> {
    let apt = folder.join("apt");
    for part in ["lists/partial", "cache/archives/partial", "debs"] {
        std::fs::create_dir_all(apt.join(part)).unwrap();
    }
    std::fs::write(apt.join("status"), "").unwrap();
    let path = |name: &str| apt.join(name).display().to_string();
    let options = [
        format!("Dir::State::lists={}", path("lists")),
        format!("Dir::State::status={}", path("status")),
        format!("Dir::Cache={}", path("cache")),
        "APT::Architectures::=amd64".to_owned(),
        "APT::Architectures::=arm64".to_owned(),
        "APT::Sandbox::User=root".to_owned(),
    ];
    let options: Vec<String> = options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect();
    let get = |words: &[&str]| run(Command::new("apt-get").args(&options).args(words).current_dir(apt.join("debs")));
    if !get(&["update", "-q"]).status.success() {
        return None;
    }
    let fetched = get(&["download", "-q", "qemu-user-static", "busybox-static:arm64"]);
    if !fetched.status.success() {
        return None;
    }
    for package in std::fs::read_dir(apt.join("debs")).unwrap() {
        let unpacked = run(Command::new("dpkg-deb").arg("-x").arg(package.unwrap().path()).arg(tree));
        assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    }
    std::fs::remove_dir_all(apt).unwrap();
    Some(())
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// An interpreter that the kernel knows. What was not there before goes again.
struct Registered {
    added: bool,
    mounted: bool,
}

impl Registered {
    /// None where the kernel has no such list, or will not take one more.
    fn add(emulator: &Path) -> Option<Registered> {
        let missing = !Path::new(LIST).join("register").exists();
        let mounted = missing && run(Command::new("mount").args(["-t", "binfmt_misc", "none", LIST])).status.success();
        let mut registered = Registered { added: false, mounted };
        if !Path::new(LIST).join(NAME).exists() {
            let line = format!(":{NAME}:{MAGIC}:{}:F", emulator.display());
            std::fs::write(Path::new(LIST).join("register"), line).ok()?;
            registered.added = true;
        }
        Some(registered)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if self.added {
            let _ = std::fs::write(Path::new(LIST).join(NAME), "-1");
        }
        if self.mounted {
            let _ = run(Command::new("umount").arg(LIST));
        }
    }
}

/// Images of the host's and of the other machine.
fn load(engine: &Engine, fetched: &Fetched) {
    let own = std::fs::read("/bin/busybox").unwrap();
    for (architecture, busybox) in [(host(), own), ("arm64", fetched.busybox())] {
        let files = ["bin/sh", "bin/uname"].map(|name| (name, 0o755, busybox.as_slice()));
        let name = format!("base-{architecture}:latest");
        engine.load(&ImageBuilder::empty(&name).architecture(architecture).layer(&files).build());
    }
}

fn host() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

const TEXT: &str = "ARG TARGETARCH\nFROM base-$TARGETARCH AS made\nRUN --network=none uname -m > /machine\n\
    FROM scratch\nCOPY --from=made /machine /\n";

#[test]
fn steps_for_another_machine_are_emulated() {
    if host() == "arm64" {
        return println!("SKIPPED steps for another machine: this one is the other machine");
    }
    let Some(fetched) = Fetched::find() else {
        return println!("SKIPPED steps for another machine: no packages can be had");
    };
    let engine = Engine::start();
    load(&engine, &fetched);
    let project = Project::new(&engine, "machines", TEXT);
    let other = project.build(&engine, &["--progress", "plain", "--platform", "linux/arm64", "--no-cache"]);
    if !Path::new(LIST).join(NAME).exists() {
        other.code_is(1).stderr_has("exec /bin/sh: exec format error");
    }
    let Some(_registered) = Registered::add(&fetched.emulator()) else {
        return println!("SKIPPED steps for another machine: the kernel takes no interpreters");
    };
    let single = engine.scratch().join("single").display().to_string();
    project.build(&engine, &["--platform", "linux/arm64", "--output", &single]).success();
    assert_eq!(std::fs::read_to_string(Path::new(&single).join("machine")).unwrap(), "aarch64\n");
    if engine.kind() == EngineKind::Docker {
        return println!("SKIPPED several platforms at once: Docker's graph drivers have one");
    }
    engine.run(["buildx", "ls"]).success().stdout_has("linux/arm64");
    several(&engine, "own", &|words| project.build(&engine, words));
    let docker = Docker::new(&engine, peers::fetched("docker"));
    let Some(docker) = docker else { return println!("SKIPPED several platforms by docker's buildx: it is not here") };
    let path = project.word();
    several(&engine, "buildx", &|words| {
        docker.run(&engine.scratch(), &[&["buildx", "build"], words, &[&path]].concat())
    });
}

/// One result for two machines, as files and as an image.
fn several(engine: &Engine, name: &str, build: &dyn Fn(&[&str]) -> Outcome) {
    let both = ["--platform", "linux/amd64,linux/arm64", "--provenance=false", "--no-cache"];
    let folder = engine.scratch().join(name);
    let out = folder.display().to_string();
    build(&[&both[..], &["--output", &out]].concat()).success();
    for (part, machine) in [("linux_amd64", "x86_64\n"), ("linux_arm64", "aarch64\n")] {
        assert_eq!(std::fs::read_to_string(folder.join(part).join("machine")).unwrap(), machine);
    }
    let layout = engine.scratch().join(format!("{name}-layout"));
    build(&[&both[..], &["--output", &format!("type=oci,tar=false,dest={}", layout.display())]].concat()).success();
    let read = |path: PathBuf| -> serde_json::Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let index = read(layout.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let images = read(layout.join("blobs").join(digest));
    let platforms: Vec<_> =
        images["manifests"].as_array().unwrap().iter().map(|one| &one["platform"]["architecture"]).collect();
    assert_eq!(platforms, ["amd64", "arm64"], "{images}");
}

//! Archives of images between this engine and the programs of others. One of the others that is not there is said, and passed over.

use std::path::{Path, PathBuf};

use skep_testkit::{Command, Engine, Image, Outcome, until};

use super::{engine, peers};

#[expect(clippy::print_stderr, reason = "a skip is told")]
fn skipped(program: &str) {
    eprintln!("skipped: {program} is not on this machine");
}

/// podman with a store of its own.
struct Podman {
    program: PathBuf,
    dir: PathBuf,
}

impl Podman {
    fn new(engine: &Engine) -> Option<Self> {
        let program = peers::installed("podman")?;
        Some(Podman { program, dir: engine.scratch().join("podman") })
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let (root, run) = (self.dir.join("root"), self.dir.join("run"));
        let root = ["--root", root.to_str().unwrap(), "--runroot", run.to_str().unwrap(), "--storage-driver", "vfs"];
        Command::new(&self.program, [&root, arguments].concat()).run()
    }
}

#[test]
fn podman_reads_what_is_saved_and_the_other_way_round() {
    let engine = engine();
    let Some(podman) = Podman::new(&engine) else { return skipped("podman") };
    let file = |name: &str| engine.scratch().join(name).display().to_string();
    engine.run(["save", "-o", &file("ours.tar"), "busybox"]).success();
    podman.run(&["load", "-i", &file("ours.tar")]).success().stdout_has("busybox:latest");
    let listed = podman.run(&["images", "--no-trunc", "-q"]).success();
    assert_eq!(listed.word(), Image::busybox().id());
    podman.run(&["tag", "busybox", "localhost/theirs:1"]).success();
    podman.run(&["save", "--format", "docker-archive", "-o", &file("docker.tar"), "localhost/theirs:1"]).success();
    podman.run(&["save", "--format", "oci-archive", "-o", &file("oci.tar"), "localhost/theirs:1"]).success();
    for name in ["docker.tar", "oci.tar"] {
        engine.run(["load", "-i", &file(name)]).success().stdout_is("Loaded image: localhost/theirs:1\n");
        engine.run(["run", "--rm", "localhost/theirs:1", "echo", name]).success().stdout_is(&format!("{name}\n"));
        engine.run(["rmi", "localhost/theirs:1"]).success();
    }
    podman.run(&["rmi", "-af"]).success();
}

/// Docker's own daemon, without a network. Ends with the test.
struct Dockerd {
    daemon: std::process::Child,
    socket: PathBuf,
}

impl Dockerd {
    /// With its former store of images, or with containerd's.
    fn start(dir: &Path, with_containerd: bool) -> Option<Self> {
        let tree = peers::target().join("peers/tree");
        let program =
            peers::fetched("containerd").map(|_| tree.join("usr/sbin/dockerd")).filter(|path| path.exists())?;
        std::fs::create_dir_all(dir).unwrap();
        let (config, socket) = (dir.join("daemon.json"), dir.join("docker.sock"));
        let features = serde_json::json!({"features": {"containerd-snapshotter": with_containerd}});
        std::fs::write(&config, features.to_string()).unwrap();
        let own = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{}:{own}", tree.join("usr/bin.peers").display(), tree.join("usr/sbin").display());
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let flags = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"];
        let mut command = std::process::Command::new(program);
        command.args(flags).env("PATH", path).stdout(log.try_clone().unwrap()).stderr(log);
        for (flag, value) in [
            ("--config-file", config),
            ("--data-root", dir.join("root")),
            ("--exec-root", dir.join("run")),
            ("--pidfile", dir.join("pid")),
        ] {
            command.arg(flag).arg(value);
        }
        command.arg("-H").arg(format!("unix://{}", socket.display()));
        let daemon = Dockerd { daemon: command.spawn().unwrap(), socket };
        until("dockerd answers", || daemon.run(&["version"]).code == 0);
        Some(daemon)
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        let client = peers::fetched("docker").unwrap();
        Command::new(client, arguments).env("DOCKER_HOST", format!("unix://{}", self.socket.display())).run()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
    }
}

fn exchange_with_docker(with_containerd: bool) {
    let engine = engine();
    let file = |name: &str| engine.scratch().join(name).display().to_string();
    engine.run(["run", "--name", "one", "busybox", "sh", "-c", "echo changed > /changed; rm /bin/wc"]).success();
    engine.run(["commit", "-c", "HEALTHCHECK CMD true", "one", "made:1"]).success();
    engine.run(["tag", "made:1", "made:2"]).success();
    engine.run(["save", "-o", &file("ours.tar"), "busybox", "made"]).success();
    let id = engine.run(["images", "-q", "--no-trunc", "made:1"]).success().word();

    let dir = tempfile::tempdir().unwrap();
    let Some(docker) = Dockerd::start(dir.path(), with_containerd) else { return skipped("dockerd") };
    let loaded = docker.run(&["load", "-i", &file("ours.tar")]).success();
    for name in ["busybox:latest", "made:1", "made:2"] {
        assert!(loaded.stdout.contains(&format!("Loaded image: {name}\n")), "{loaded}");
    }
    let layers = ["image", "inspect", "-f", "{{json .RootFS.Layers}} {{json .Config.Healthcheck}}", "made:2"];
    engine.run(layers).success().stdout_is(&docker.run(&layers).success().stdout);

    docker.run(&["save", "-o", &file("theirs.tar"), "made:1", "made:2", "busybox"]).success();
    engine.run(["rm", "one"]).success();
    engine.run(["rmi", "busybox", "made:1", "made:2"]).success();
    let loaded = engine.run(["load", "-i", &file("theirs.tar")]).success();
    for name in ["busybox:latest", "made:1", "made:2"] {
        assert!(loaded.stdout.contains(&format!("Loaded image: {name}\n")), "{loaded}");
    }
    assert_eq!(engine.run(["images", "-q", "--no-trunc", "made:1"]).success().word(), id);
    engine.run(["run", "--rm", "made:2", "cat", "/changed"]).success().stdout_is("changed\n");
}

#[test]
fn docker_reads_what_is_saved_and_the_other_way_round() {
    exchange_with_docker(false);
}

#[test]
fn docker_with_containerds_store_reads_it_too() {
    exchange_with_docker(true);
}

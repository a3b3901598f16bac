//! Caches that skep and Docker's builder hand each other. Neither finds a step of the other, as each has its own keys; but neither
//! stumbles over what the other wrote: the build goes on, and its result is right.
//!
//! dockerd runs in a network of its own, as its firewall rules would stand in the way of other tests; so does the registry while dockerd
//! needs it.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use skep_testkit::{Api, Command, Engine, EngineKind, Image, Outcome, Registry, program, until};

use super::engine;
use super::peers::target;
use super::project::{Project, cat};

const TEXT: &str = "FROM busybox AS made\nRUN --network=none echo made > /made\n\
    FROM busybox\nCOPY --from=made /made /\nRUN --network=none echo last > /last\nCOPY --link Dockerfile /linked\n";

/// Docker's engine with the store of images that writes caches.
struct Dockerd {
    dir: tempfile::TempDir,
    tree: PathBuf,
    daemon: Child,
}

impl Dockerd {
    /// None if it is not here.
    fn start() -> Option<Dockerd> {
        let peers = target().join("peers");
        let tree = peers.join("tree");
        if !peers.join(".complete").exists() {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("skep-peer-").tempdir().unwrap();
        let plugins = dir.path().join("config/cli-plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        let plugin = tree.join("usr/libexec/docker/cli-plugins/docker-buildx");
        std::os::unix::fs::symlink(plugin, plugins.join("docker-buildx")).unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let own = std::env::var("PATH").unwrap_or_default();
        let daemon = std::process::Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", "ip link set lo up && exec dockerd \"$@\"", "dockerd"])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
            .args(["--host", &format!("unix://{}", path("sock")), "--bridge", "none", "--group", "root"])
            .args(["--feature", "containerd-snapshotter=true", "--insecure-registry", "127.0.0.0/8"])
            .env("PATH", format!("{0}/usr/bin.peers:{0}/usr/sbin:{own}", tree.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let dockerd = Dockerd { dir, tree, daemon };
        let api = Api::Unix(dockerd.dir.path().join("sock"));
        until("dockerd answers", || api.request("GET", "/_ping", None).is_ok_and(|reply| reply.status == 200));
        let headers = [("Content-Type", "application/x-tar")];
        let loaded = api.send("POST", "/images/load?quiet=1", &headers, &Image::busybox().archive()).unwrap();
        assert_eq!(loaded.status, 200, "{}", loaded.text());
        Some(dockerd)
    }

    /// `docker build FLAGS PROJECT`.
    fn build(&self, project: &Project, flags: &[&str]) -> Outcome {
        let folder = project.word();
        let words = ["build", "--progress", "plain"].iter().chain(flags).copied().chain([folder.as_str()]);
        let socket = format!("unix://{}", self.dir.path().join("sock").display());
        let config = self.dir.path().join("config");
        let command = Command::new(self.tree.join("usr/bin/docker"), words).env("DOCKER_HOST", socket);
        command.env("DOCKER_CONFIG", &config).env("HOME", &config).run()
    }

    /// Does something while the registry is where dockerd is.
    fn with_registry(&self, registry: &mut Registry, work: impl FnOnce()) {
        registry.kill();
        let network = format!("--net=/proc/{}/ns/net", self.daemon.id());
        let mut server = std::process::Command::new("nsenter")
            .arg(&network)
            .arg(program("skep"))
            .args(["registry", "serve", "--listen", registry.address(), "--root"])
            .arg(registry.root())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("http://{}/v2/", registry.address());
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let ask = [&network, "busybox", "wget", "-q", "-O", "/dev/null", &url];
            until("the registry answers", || Command::new("nsenter", ask).run().code == 0);
            work();
        }));
        server.kill().unwrap();
        server.wait().unwrap();
        registry.launch();
        done.unwrap();
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // A normal end, so that its containerd ends too.
        let _ = Command::new("kill", [self.daemon.id().to_string()]).run();
        let _ = self.daemon.wait();
    }
}

/// Which of the steps of [`TEXT`] were not known.
fn ran(outcome: &Outcome) -> Vec<&'static str> {
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let is_cached = |step: &&str| {
        let line = lines.iter().find(|line| line.contains(step)).copied().unwrap_or_default();
        let number = line.split(' ').next().unwrap_or_default();
        lines.contains(&format!("{number} CACHED").as_str())
    };
    STEPS.into_iter().filter(|step| !is_cached(step)).collect()
}

const STEPS: [&str; 4] =
    ["RUN --network=none echo made", "COPY --from=made", "RUN --network=none echo last", "COPY --link"];

#[track_caller]
fn is_right(engine: &Engine) {
    assert_eq!(
        cat(engine, "app", "/made") + &cat(engine, "app", "/last") + &cat(engine, "app", "/linked"),
        format!("made\nlast\n{TEXT}")
    );
}

fn files(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("index.json")).unwrap()
}

#[test]
fn caches_of_another_builder_are_read_without_harm() {
    if Engine::kind_under_test() == EngineKind::Docker {
        return println!("SKIPPED caches of another builder: both would be Docker's");
    }
    let Some(dockerd) = Dockerd::start() else {
        return println!("SKIPPED caches of another builder: `cargo xtask peers` has not fetched Docker");
    };
    let engine = engine();
    let project = Project::new(&engine, "app", TEXT);
    let forget = || engine.run(["builder", "prune", "-af"]).success();

    // A directory that BuildKit wrote, for skep; and the other way round.
    let (theirs, ours) = (engine.scratch().join("theirs"), engine.scratch().join("ours"));
    dockerd.build(&project, &["--cache-to", &format!("type=local,dest={},mode=max", theirs.display())]).success();
    assert!(files(&theirs).contains("application/vnd.oci.image.manifest.v1+json"));
    let from = format!("type=local,src={}", theirs.display());
    let built = project.build(&engine, &["--progress", "plain", "--cache-from", &from, "-t", "app"]).success();
    assert!(built.stderr.contains("importing cache manifest from"), "{built}");
    assert!(!built.stderr.contains("WARNING") && ran(&built) == STEPS, "the keys are others: {built}");
    is_right(&engine);
    project.build(&engine, &["--cache-to", &format!("type=local,dest={},mode=max", ours.display())]).success();
    let from = format!("type=local,src={}", ours.display());
    let built = dockerd.build(&project, &["--no-cache-filter=none", "--cache-from", &from]).success();
    assert!(built.stderr.contains("importing cache manifest from") && !built.stderr.contains("ERROR"), "{built}");

    // A registry's, and an image with a cache of its own.
    let mut registry = Registry::start_own();
    let name = |tag: &str| registry.name(&format!("cache:{tag}"));
    let (cache, image, own, own_image) = (name("theirs"), name("image"), name("ours"), name("ours-image"));
    let to = |name: &str| format!("type=registry,ref={name},mode=max");
    project.build(&engine, &["--cache-to", &to(&own)]).success();
    project.build(&engine, &["--cache-to", "type=inline", "--push", "-t", &own_image]).success();
    dockerd.with_registry(&mut registry, || {
        dockerd.build(&project, &["--cache-to", &to(&cache)]).success();
        dockerd.build(&project, &["--cache-to", "type=inline", "--push", "-t", &image]).success();
        for from in [&own, &own_image] {
            let built = dockerd.build(&project, &["--cache-from", &format!("type=registry,ref={from}")]).success();
            assert!(
                built.stderr.contains("importing cache manifest from") && !built.stderr.contains("ERROR"),
                "{built}"
            );
        }
    });
    for from in [&cache, &image] {
        forget();
        let from = format!("type=registry,ref={from}");
        let built = project.build(&engine, &["--progress", "plain", "--cache-from", &from, "-t", "app"]).success();
        assert!(built.stderr.contains("importing cache manifest from") && !built.stderr.contains("WARNING"), "{built}");
        assert_eq!(ran(&built), STEPS);
        is_right(&engine);
    }
}

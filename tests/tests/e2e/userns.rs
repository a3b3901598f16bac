//! `userns-remap`: containers and steps of builds in user namespaces, over the same images and volumes as without.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use serde_json::json;
use skep_testkit::{Command, Engine, EngineKind, Image, ImageBuilder, Outcome, subordinate_ids, until};

use super::network::{ask, server};
use super::sleeper;

/// An engine with a configuration file that a test may write anew.
struct Remapped {
    engine: Engine,
    file: PathBuf,
    /// The first id of the host that is a container's.
    base: u32,
    _folder: tempfile::TempDir,
}

impl Remapped {
    fn start() -> Remapped {
        let base = subordinate_ids("dockremap");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("daemon.json");
        let builder = json!({"entitlements": {"security-insecure": true}});
        std::fs::write(&file, json!({"userns-remap": "default", "builder": builder}).to_string()).unwrap();
        let engine = Engine::builder().argument("--config-file").argument(&file).start();
        engine.load(Image::busybox());
        Remapped { engine, file, base, _folder: folder }
    }

    /// Starts the daemon again without the option, while containers go on.
    fn switch_off(&mut self) {
        self.engine.stop();
        std::fs::write(&self.file, "{}").unwrap();
        self.engine.launch();
    }

    fn pid(&self, container: &str) -> i64 {
        self.engine.inspect(container)["State"]["Pid"].as_i64().unwrap()
    }

    fn build(&self, dockerfile: &str, arguments: &[&str]) -> Outcome {
        build(&self.engine, dockerfile, arguments)
    }
}

fn build(engine: &Engine, dockerfile: &str, arguments: &[&str]) -> Outcome {
    let folder = engine.scratch().join("project");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    std::fs::write(folder.join("file"), "text\n").unwrap();
    chown(folder.join("file"), Some(1234), Some(1234)).unwrap();
    let folder = folder.display().to_string();
    let words = ["build", "--progress=plain"].iter().chain(arguments).copied().chain([folder.as_str()]);
    engine.run(words.collect::<Vec<_>>())
}

/// An image with the host's tools for capabilities and attributes, and what they need to run.
fn tools() -> Image {
    let mut files = Vec::new();
    for program in ["/usr/sbin/setcap", "/usr/bin/setfattr"] {
        let needed = Command::new("ldd", [program]).run().success().stdout;
        let paths = needed.split_ascii_whitespace().filter(|word| word.starts_with('/'));
        files.extend(paths.chain([program]).map(str::to_owned));
    }
    files.sort();
    files.dedup();
    let contents: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let entries = files.iter().zip(&contents).map(|(path, content)| (&path[1..], 0o755, content.as_slice()));
    ImageBuilder::new("tools").layer(&entries.collect::<Vec<_>>()).build()
}

/// Steps that leave everything in a layer that a layer can hold.
const EVERYTHING: &str = "FROM tools AS base\n\
    RUN mkdir -p /opaque /gone/deep && echo a > /opaque/a && echo b > /gone/deep/b && echo c > /c && echo m > /moved \
      && cp /bin/busybox /able && chown 7:8 /c && mkdir /theirs && echo t > /theirs/t && chown -R 1000:1000 /theirs \
      && /usr/sbin/setcap cap_net_raw,cap_net_bind_service+ep /able\n\
    FROM base\n\
    RUN rm -r /gone && rm -r /opaque && mkdir /opaque && echo z > /opaque/z && chmod 4755 /c && mv /able /abler \
      && ln /moved /linked && ln -s /moved /symbolic && mkfifo /fifo && chmod 1777 /theirs && echo more >> /theirs/t \
      && cp /bin/busybox /newly && /usr/sbin/setcap cap_chown+p /newly && /usr/bin/setfattr -n user.colour -v red /moved\n\
    USER 1000:50\n\
    RUN --mount=type=tmpfs,target=/tmp echo mine > /theirs/mine && id -u\n\
    USER 0\n\
    COPY --chown=9:9 file /copied\n\
    WORKDIR /made/here\n\
    RUN pwd > where && mkdir -m 2775 set && chgrp 50 set\n";

#[test]
fn the_same_steps_leave_the_same_layers() {
    if Engine::kind_under_test() == EngineKind::Docker {
        return println!("SKIPPED the_same_steps_leave_the_same_layers: its own exporter keeps times as they are");
    }
    let remapped = Remapped::start();
    let plain = super::engine();
    let digest = |engine: &Engine| {
        engine.load(&tools());
        let (archive, told) = (engine.scratch().join("oci.tar"), engine.scratch().join("told.json"));
        let output = format!("type=oci,dest={},rewrite-timestamp=true", archive.display());
        let told = told.display().to_string();
        let arguments = ["--build-arg=SOURCE_DATE_EPOCH=1", "--provenance=false", "--output", &output];
        build(engine, EVERYTHING, &[&arguments[..], &["--metadata-file", &told]].concat()).success();
        let told: serde_json::Value = serde_json::from_slice(&std::fs::read(told).unwrap()).unwrap();
        (told["containerimage.digest"].clone(), told["containerimage.config.digest"].clone())
    };
    assert_eq!(digest(&remapped.engine), digest(&plain));
    // What was made with one setting is used with the other.
    remapped.build(EVERYTHING, &["-t", "made"]).success();
    let script =
        "stat -c '%u:%g %a %n' /c /theirs/t /copied /opaque/z; ls /gone /opaque 2>&1; test -u /c && echo set-user-id";
    let out = remapped.engine.run(["run", "--rm", "made", "sh", "-c", script]).stdout;
    let expected = "7:8 4755 /c\n1000:1000 644 /theirs/t\n9:9 644 /copied\n0:0 644 /opaque/z\n\
        ls: /gone: No such file or directory\n/opaque:\nz\nset-user-id\n";
    assert_eq!(out, expected);
    remapped.engine.run(["run", "--rm", "--userns=host", "made", "sh", "-c", script]).stdout_is(expected);
}

#[test]
fn the_host_sees_other_ids() {
    let remapped = Remapped::start();
    let (engine, base) = (&remapped.engine, remapped.base);
    sleeper(engine, "one");
    let process = format!("/proc/{}", remapped.pid("one"));
    assert_eq!(std::fs::metadata(&process).unwrap().uid(), base);
    let map = std::fs::read_to_string(format!("{process}/uid_map")).unwrap();
    assert_eq!(map.split_ascii_whitespace().collect::<Vec<_>>(), ["0", &base.to_string(), "65536"]);
    let own = std::fs::read_link("/proc/self/ns/user").unwrap();
    assert_ne!(std::fs::read_link(format!("{process}/ns/user")).unwrap(), own);
    engine.run(["run", "-d", "--name", "host", "--userns=host", "--init", "busybox", "sleep", "1000"]).success();
    assert_eq!(std::fs::read_link(format!("/proc/{}/ns/user", remapped.pid("host"))).unwrap(), own);
    assert_eq!(engine.inspect("host")["HostConfig"]["UsernsMode"], "host");
    engine.run(["info", "--format", "{{.SecurityOptions}}"]).success().stdout_has("name=userns");
    let step = "FROM busybox\nRUN cat /proc/self/uid_map && id -u && mknod /x c 1 3; touch /dev/shm/x\n";
    let said = remapped.build(step, &["--no-cache"]).success().stderr;
    assert!(said.split_ascii_whitespace().any(|word| word == base.to_string()), "{said}");
    assert!(said.contains("mknod: /x: Operation not permitted"), "{said}");
}

#[test]
fn everything_a_container_is_used_for_works() {
    let remapped = Remapped::start();
    let engine = &remapped.engine;
    let script = "set -e; id -u; echo out > /dev/stdout; hostname > /f; chown 5:6 /f; echo x >> /etc/hosts; \
        stat -c %u:%g / /f /dev/shm /dev/pts /t; echo x > /t/x; mount -t tmpfs x /mnt 2>&1 || true";
    let run = ["run", "--rm", "--tmpfs", "/t", "--init", "-m", "64m", "--ulimit", "nofile=1234", "busybox", "sh", "-c"];
    let out = engine.run([&run[..], &[script]].concat()).success().stdout;
    assert!(out.starts_with("0\nout\n0:0\n5:6\n0:0\n0:0\n0:0\n"), "{out}");
    engine
        .run(["run", "--rm", "-t", "busybox", "sh", "-c", "tty; echo x > /dev/tty"])
        .success()
        .stdout_has("/dev/pts/0");
    engine.run(["run", "--rm", "--read-only", "busybox", "touch", "/x"]).code_is(1).stderr_has("Read-only file system");
    engine
        .run(["run", "--rm", "--user", "1000:50", "busybox", "sh", "-c", "id -u; id -g; echo x > /dev/stderr"])
        .success();
    sleeper(engine, "one");
    engine
        .run(["exec", "one", "sh", "-c", "id -u; cat /proc/1/cmdline > /dev/null; echo ok"])
        .success()
        .stdout_is("0\nok\n");
    engine.run(["exec", "-u", "7", "one", "sh", "-c", "id -u > /dev/stdout"]).success().stdout_is("7\n");
    engine.run(["exec", "-t", "one", "tty"]).success();
    engine.run(["exec", "one", "sh", "-c", "echo x > /new && chown 3:4 /new"]).success();
    engine.run(["diff", "one"]).success().stdout_has("A /new\n");
    engine.run(["commit", "one", "kept"]).success();
    engine.run(["run", "--rm", "kept", "stat", "-c", "%u:%g", "/new"]).success().stdout_is("3:4\n");
    engine.run(["stop", "-t", "0", "one"]).success();
    engine.run(["start", "one"]).success();
    engine.run(["exec", "one", "stat", "-c", "%u:%g", "/new"]).success().stdout_is("3:4\n");
}

#[test]
fn files_go_in_and_out_under_the_containers_ids() {
    let remapped = Remapped::start();
    let engine = &remapped.engine;
    sleeper(engine, "one");
    let file = engine.scratch().join("in");
    std::fs::write(&file, "in").unwrap();
    chown(&file, Some(7), Some(8)).unwrap();
    let file = file.display().to_string();
    engine.run(["cp", "-a", &file, "one:/in"]).success();
    engine.run(["cp", &file, "one:/tmp/"]).success();
    engine.run(["exec", "one", "stat", "-c", "%u:%g", "/in"]).success().stdout_is("7:8\n");
    engine.run(["exec", "one", "sh", "-c", "echo out > /out; chown 9:10 /out; mkdir /d; cp /out /d"]).success();
    for (path, owners) in [("/out", &[(9, 10)][..]), ("/d", &[(0, 0), (0, 0)])] {
        let archive = engine.run(["cp", &format!("one:{path}"), "-"]).success().stdout;
        let mut archive = tar::Archive::new(archive.as_bytes());
        let found = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.header().uid().unwrap(), entry.header().gid().unwrap())
        });
        let found: Vec<_> = found.collect();
        // Docker tells the host's ids here, and takes the container's on the way in.
        if engine.kind() == EngineKind::Skep {
            assert_eq!(found, owners, "{path}");
        }
    }
    chown(&file, Some(100_000), Some(8)).unwrap();
    engine.run(["cp", "-a", &file, "one:/in"]).code_is(1);
    engine.run(["stop", "-t", "0", "one"]).success();
    engine.run(["cp", &format!("one:{}", "/out"), &engine.scratch().join("again").display().to_string()]).success();
}

#[test]
fn volumes_belong_to_the_container_and_paths_of_the_host_do_not() {
    let remapped = Remapped::start();
    let (engine, base) = (&remapped.engine, remapped.base);
    let write = "echo x > /v/x && chown 5:5 /v/x && stat -c %u:%g /v /v/x";
    engine.run(["run", "--rm", "-v", "vol:/v", "busybox", "sh", "-c", write]).success().stdout_is("0:0\n5:5\n");
    engine.run(["run", "--rm", "-v", "vol:/v", "busybox", "stat", "-c", "%u", "/v/x"]).success().stdout_is("5\n");
    let host = engine.scratch().join("host");
    std::fs::create_dir(&host).unwrap();
    let bind = format!("{}:/h", host.display());
    let touch = ["run", "--rm", "-v", &bind, "busybox", "touch", "/h/x"];
    engine.run(touch).code_is(1).stderr_has("Permission denied");
    chown(&host, Some(base), Some(base)).unwrap();
    engine.run(touch).success();
    assert_eq!(std::fs::metadata(host.join("x")).unwrap().uid(), base);
}

#[test]
fn what_is_shared_with_the_host_is_refused() {
    let remapped = Remapped::start();
    let engine = &remapped.engine;
    for (argument, text) in [
        ("--privileged", "privileged mode is incompatible with user namespaces."),
        ("--network=host", "cannot share the host's network namespace when user namespaces are enabled"),
        ("--pid=host", "cannot share the host PID namespace when user namespaces are enabled"),
    ] {
        engine.run(["run", "--rm", argument, "busybox", "true"]).code_is(125).stderr_has(text);
        engine.run(["run", "--rm", "--userns=host", argument, "busybox", "true"]).success();
    }
    let said = remapped.build("FROM busybox\nRUN --network=host id\n", &["--allow", "network.host"]);
    if engine.kind() == EngineKind::Skep {
        said.code_is(1).stderr_has("cannot share the host's network namespace when user namespaces are enabled");
    }
}

#[test]
fn networks_belong_to_the_namespace() {
    let remapped = Remapped::start();
    let engine = &remapped.engine;
    server(engine, "web", &["-p", "127.0.0.1::80"]);
    let port = engine.run(["port", "web", "80/tcp"]).success().word();
    until("the published port answers", || ask(&port).as_deref() == Some("hello from inside"));
    let address =
        engine.inspect("web")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().unwrap().to_owned();
    engine.run(["run", "--rm", "busybox", "ping", "-c", "1", &address]).success();
    engine.run(["run", "--rm", "--network", "none", "busybox", "ping", "-c", "1", "127.0.0.1"]).success();
    let rule = ["run", "--rm", "--cap-add", "NET_ADMIN", "busybox", "ip", "link", "set", "lo", "mtu", "9000"];
    engine.run(rule).success();
    // Who shares a network shares the user namespace that has the rights over it.
    let beside = ["run", "--rm", "--network", "container:web", "busybox", "sh", "-c", "wget -qO- localhost && echo $$"];
    engine.run(beside).success().stdout_is("hello from inside\n1\n");
    engine.run(["run", "--rm", "--pid", "container:web", "busybox", "sh", "-c", "ps | grep -c httpd"]).success();
    let step = format!(
        "FROM busybox\nRUN ping -c 1 {address} && ip addr show lo | grep 127.0.0.1\nRUN --network=none ping -c 1 127.0.0.1\n"
    );
    remapped.build(&step, &[]).success();
}

#[test]
fn mounts_of_steps_belong_to_the_ids_they_name() {
    let remapped = Remapped::start();
    let secret = remapped.engine.scratch().join("secret");
    std::fs::write(&secret, "hidden\n").unwrap();
    let secret = format!("id=s,src={}", secret.display());
    let text = "FROM busybox AS other\nRUN mkdir /d && echo x > /d/x && chown 3:4 /d/x\nFROM busybox\n\
        RUN --mount=type=cache,target=/c,uid=5 --mount=type=secret,id=s,uid=6,target=/s --mount=type=bind,target=/ctx \
        --mount=type=bind,from=other,source=/d,target=/o,rw \
        stat -c '%u %n' /c /s /o/x /ctx/file && cat /s && touch /c/kept /o/new && stat -c '%u %n' /c/kept /o/new\n";
    let said = remapped.build(text, &["--secret", &secret]).success().stderr;
    for line in ["5 /c", "6 /s", "3 /o/x", "0 /ctx/file", "0 /c/kept", "0 /o/new", "hidden"] {
        assert!(said.contains(&format!(" {line}")), "{line}: {said}");
    }
}

#[test]
fn all_privileges_of_a_step_are_those_of_its_namespace() {
    let remapped = Remapped::start();
    if remapped.engine.kind() == EngineKind::Docker {
        return println!("SKIPPED all_privileges_of_a_step_are_those_of_its_namespace: its frontend has to be pulled");
    }
    let script =
        "mount -t tmpfs x /mnt && cat /proc/self/uid_map; echo 1 > /proc/sys/vm/drop_caches || echo not the host";
    let said = remapped.build(
        &format!("# syntax=docker/dockerfile:1-labs\nFROM busybox\nRUN --security=insecure mkdir -p /mnt; {script}\n"),
        &["--allow", "security.insecure"],
    );
    let said = said.success().stderr;
    assert!(said.contains(&remapped.base.to_string()) && said.contains("not the host"), "{said}");
}

#[test]
fn the_option_can_go_while_containers_run() {
    let mut remapped = Remapped::start();
    if remapped.engine.kind() == EngineKind::Docker {
        return println!("SKIPPED the_option_can_go_while_containers_run: its containers are gone with the option");
    }
    sleeper(&remapped.engine, "one");
    let (pid, base) = (remapped.pid("one"), remapped.base);
    remapped.engine.run(["exec", "one", "sh", "-c", "echo x > /x; chown 5:5 /x"]).success();
    remapped.engine.kill();
    remapped.engine.launch();
    assert_eq!(remapped.pid("one"), pid);
    remapped.switch_off();
    let engine = &remapped.engine;
    let map = engine.run(["exec", "one", "cat", "/proc/self/uid_map"]).success().stdout;
    assert!(map.contains(&base.to_string()), "{map}");
    engine.run(["exec", "one", "sh", "-c", "id -u > /dev/stdout"]).success().stdout_is("0\n");
    let file = engine.scratch().join("file");
    std::fs::write(&file, "").unwrap();
    engine.run(["cp", &file.display().to_string(), "one:/copied"]).success();
    engine.run(["exec", "one", "stat", "-c", "%u", "/copied"]).success().stdout_is("0\n");
    engine.run(["restart", "-t", "0", "one"]).success();
    assert_eq!(std::fs::metadata(format!("/proc/{}", remapped.pid("one"))).unwrap().uid(), 0);
    engine.run(["exec", "one", "stat", "-c", "%u", "/x", "/copied"]).success().stdout_is("5\n0\n");
}

#[test]
fn what_cannot_be_is_said_at_the_start() {
    if Engine::kind_under_test() == EngineKind::Docker {
        return println!("SKIPPED what_cannot_be_is_said_at_the_start: its own words");
    }
    subordinate_ids("dockremap");
    let folder = tempfile::tempdir().unwrap();
    let daemon = |more: &[&str]| {
        let at = |name: &str| folder.path().join(name).display().to_string();
        let host = format!("unix://{}", at("s"));
        let (data, exec) = (at("data"), at("exec"));
        let fixed = ["daemon", "--data-root", &data, "--exec-root", &exec, "-H", &host, "--bridge", "none"];
        Command::new(skep_testkit::program("skep"), [&fixed[..], more].concat()).run()
    };
    daemon(&["--userns-remap", "no-such-user"])
        .code_is(1)
        .stderr_has("user \"no-such-user\" has no entry in /etc/passwd");
    daemon(&["--userns-remap", "nobody"])
        .code_is(1)
        .stderr_has("add a line such as nobody:165536:65536 to /etc/subuid");
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let _mounted = Ramfs::mount(&data);
    daemon(&["--userns-remap", "default"])
        .code_is(1)
        .stderr_has("the file system (ramfs) can't do that with this kernel");
}

/// A file system that can't map owners.
struct Ramfs(PathBuf);

impl Ramfs {
    fn mount(path: &Path) -> Ramfs {
        Command::new("mount", ["-t", "ramfs", "ramfs", &path.display().to_string()]).run().success();
        Ramfs(path.to_owned())
    }
}

impl Drop for Ramfs {
    fn drop(&mut self) {
        let _ = Command::new("umount", [&self.0]).run();
    }
}

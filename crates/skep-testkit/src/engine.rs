//! An engine of the test's own.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::leaks::{Belongings, Snapshot};
use crate::wait::until_some;
use crate::{Api, Command, Image, Outcome, Registry, Slot, Terminal, binaries, until};

/// Whose engine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// This project's.
    Skep,
    /// dockerd, to prove the tests.
    Docker,
}

/// How an engine is to be started.
#[derive(Debug, Default)]
pub struct EngineBuilder {
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    passed_socket: bool,
    disk: Option<String>,
}

/// A running engine with its own directories, socket, bridge, and addresses. See the crate's text for what happens at its end.
#[derive(Debug)]
pub struct Engine {
    kind: EngineKind,
    slot: Slot,
    dir: PathBuf,
    builder: EngineBuilder,
    daemon: Option<Child>,
    baseline: Option<Snapshot>,
}

impl EngineBuilder {
    /// A further argument of the daemon.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> EngineBuilder {
        self.arguments.push(argument.into());
        self
    }

    /// A variable in the daemon's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> EngineBuilder {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// The engine doesn't make its socket but gets it passed, as from systemd (sd_listen_fds(3)).
    #[must_use]
    pub fn passed_socket(mut self) -> EngineBuilder {
        self.passed_socket = true;
        self
    }

    /// Gives the data root a file system of its own of this size (`64m`), so that it can be full.
    #[must_use]
    pub fn disk(mut self, size: &str) -> EngineBuilder {
        self.disk = Some(size.to_owned());
        self
    }

    /// Starts the engine and waits until it answers.
    #[track_caller]
    pub fn start(self) -> Engine {
        let kind = Engine::kind_under_test();
        let slot = Slot::take();
        // Paths of sockets may have 107 characters.
        let dir = tempfile::Builder::new().prefix("skep-test-").tempdir().expect("a temporary directory").keep();
        let mut engine = Engine { kind, slot, dir, builder: self, daemon: None, baseline: None };
        engine.belongings().clean_up(); // what a test that was killed may have left under this number
        if let Some(size) = &engine.builder.disk {
            std::fs::create_dir_all(engine.data_root()).expect("a directory");
            let root = engine.data_root().display().to_string();
            Command::new("mount", ["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", &root]).run().success();
        }
        engine.launch();
        engine.baseline = Some(engine.snapshot());
        engine
    }
}

impl Engine {
    /// Starts an engine with the settings of every test.
    #[track_caller]
    pub fn start() -> Engine {
        EngineBuilder::default().start()
    }

    /// For other settings.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Whose engines this run of the tests starts.
    #[track_caller]
    pub fn kind_under_test() -> EngineKind {
        match std::env::var("SKEP_TEST_ENGINE").as_deref() {
            Err(_) | Ok("skep") => EngineKind::Skep,
            Ok("docker") => EngineKind::Docker,
            Ok(other) => panic!("SKEP_TEST_ENGINE={other}: neither skep nor docker"),
        }
    }

    /// Whose engine it is.
    pub fn kind(&self) -> EngineKind {
        self.kind
    }

    /// Its number and what is derived from it.
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// A directory for the test's files, which goes away with the engine.
    pub fn scratch(&self) -> PathBuf {
        let dir = self.dir.join("scratch");
        std::fs::create_dir_all(&dir).expect("a directory");
        dir
    }

    /// Its data root.
    pub fn data_root(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Its exec root.
    pub fn exec_root(&self) -> PathBuf {
        self.dir.join("exec")
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("sock")
    }

    /// Its API.
    pub fn api(&self) -> Api {
        Api::Unix(self.socket())
    }

    /// The daemon's process.
    pub fn pid(&self) -> Option<i32> {
        self.daemon.as_ref().and_then(|daemon| i32::try_from(daemon.id()).ok())
    }

    /// All that the daemon has logged.
    pub fn log(&self) -> String {
        std::fs::read(self.log_file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// A client's command against this engine.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        self.with_environment(Command::new(client(), arguments))
    }

    /// Runs a client's command to its end.
    #[track_caller]
    #[must_use = "a command's outcome is what a test is about"]
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        self.command(arguments).run()
    }

    /// Runs a client's command on a terminal.
    #[track_caller]
    pub fn terminal<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Terminal {
        Terminal::start(|command| self.with_environment(command), client(), arguments)
    }

    /// Loads an image.
    #[track_caller]
    pub fn load(&self, image: &Image) {
        let headers = [("Content-Type", "application/x-tar")];
        let reply = self.api().send("POST", "/images/load?quiet=1", &headers, &image.archive()).expect("load an image");
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(!reply.text().contains("errorDetail"), "{}", reply.text());
    }

    /// Stores an image in a registry and pulls it from there; returns the name to run it by.
    #[track_caller]
    pub fn pull(&self, registry: &Registry, image: &Image) -> String {
        registry.push(&image.name, image);
        let name = registry.name(&image.name);
        self.run(["pull", "--quiet", &name]).success();
        name
    }

    /// The state of a container, as `inspect` has it.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        self.api().call("GET", &format!("/containers/{container}/json"), None)
    }

    /// Waits until a container is in this state (`running`, `exited` ...).
    #[track_caller]
    pub fn until_status(&self, container: &str, status: &str) {
        until(&format!("{container} is {status}"), || self.inspect(container)["State"]["Status"] == status);
    }

    /// Kills the daemon, as a crash or the kernel's OOM killer would. Containers go on.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        daemon.kill().expect("kill the daemon");
        daemon.wait().expect("wait for the daemon");
    }

    /// Makes the daemon kill itself when it comes to this place of its code (`NAME` or `NAME:COUNT`, see skep-store's
    /// `crash_point`). Only programs built for debugging have such places.
    #[track_caller]
    pub fn crash_at(&self, place: &str) {
        std::fs::write(self.crash_file(), place).expect("write the place of the crash");
    }

    /// Ends what [`Engine::crash_at`] began: the daemon is started again if it has crashed. Tells whether it has.
    #[track_caller]
    pub fn recover(&mut self) -> bool {
        std::fs::remove_file(self.crash_file()).expect("there is a place to crash at");
        let api = self.api();
        let mut crashed = false;
        until("the daemon answers or has ended", || {
            let daemon = self.daemon.as_mut().expect("the daemon was started");
            crashed = daemon.try_wait().expect("wait for the daemon").is_some();
            crashed || api.request("GET", "/_ping", None).is_ok_and(|reply| reply.status == 200)
        });
        if crashed {
            self.daemon = None;
            self.launch();
        }
        crashed
    }

    fn crash_file(&self) -> PathBuf {
        self.dir.join("crash")
    }

    /// Ends the daemon the normal way. Containers go on.
    #[track_caller]
    pub fn stop(&mut self) {
        let pid = self.pid().and_then(Pid::from_raw).expect("the daemon runs");
        kill_process(pid, Signal::TERM).expect("signal the daemon");
        self.until_ended();
    }

    /// Waits for the daemon to end by itself.
    #[track_caller]
    pub fn until_ended(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        let status = until_some("the daemon ends", || daemon.try_wait().expect("wait for the daemon"));
        assert!(status.success(), "the daemon ended with {status}\n{}", self.log());
    }

    /// Starts the daemon again after [`Engine::kill`] or [`Engine::stop`].
    #[track_caller]
    pub fn launch(&mut self) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).expect("a log file");
        let mut daemon = self.daemon_command(log).spawn().expect("start the daemon");
        let api = self.api();
        until("the daemon answers", || {
            let ended = daemon.try_wait().expect("wait for the daemon");
            assert!(ended.is_none(), "the daemon ended: {}\n{}", ended.unwrap_or_default(), self.log());
            api.request("GET", "/_ping", None).is_ok_and(|reply| reply.status == 200)
        });
        self.daemon = Some(daemon);
    }

    fn daemon_command(&self, log: File) -> std::process::Command {
        let mut command = match self.kind {
            EngineKind::Skep => {
                let mut command = self.program(binaries::program("skep").as_os_str());
                command.env("SKEP_CRASH_FILE", self.crash_file());
                command.arg("daemon").args(["--bridge", &self.slot.bridge(), "--bip", &self.slot.bip()]);
                command
            }
            EngineKind::Docker => {
                // dockerd takes an address only for a bridge that it makes itself, under a fixed name.
                let bridge = self.slot.bridge();
                let _ = Command::new("ip", ["link", "add", &bridge, "type", "bridge"]).run();
                let _ = Command::new("ip", ["addr", "add", &self.slot.bip(), "dev", &bridge]).run();
                let mut command = self.program(OsStr::new("dockerd"));
                command.args([
                    "--bridge",
                    &bridge,
                    "--live-restore",
                    "--group",
                    "root",
                    "--storage-driver",
                    "overlay2",
                ]);
                command
            }
        };
        let host = match self.builder.passed_socket {
            true => "fd://".to_owned(),
            false => format!("unix://{}", self.socket().display()),
        };
        command.arg("--data-root").arg(self.data_root()).arg("--exec-root").arg(self.exec_root());
        command.arg("--pidfile").arg(self.dir.join("pid")).args(["--host", &host]);
        command.args(["--cgroup-parent", &self.slot.cgroup_parent()]);
        command.args(["--default-address-pool", &self.slot.pool()]);
        // How full the machine's disk is must not matter; tests of the garbage collection have a disk of their own.
        if self.kind == EngineKind::Skep && self.builder.disk.is_none() {
            command.arg("--gc=false");
        }
        command.args(&self.builder.arguments).envs(self.builder.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second descriptor")).stderr(log);
        command
    }

    /// The daemon's program, started by one that passes it the socket if that is wanted.
    fn program(&self, name: &OsStr) -> std::process::Command {
        if !self.builder.passed_socket {
            return std::process::Command::new(name);
        }
        let mut command = std::process::Command::new("python3");
        command.args(["-c", PASS_SOCKET]).arg(self.socket()).arg(name);
        command
    }

    /// The client's settings: this engine, and nothing of the user who runs the tests.
    fn with_environment(&self, command: Command) -> Command {
        let home = self.dir.join("home");
        std::fs::create_dir_all(&home).expect("a directory");
        let config = home.join(".docker");
        if let Some(plugins) = std::env::var_os("SKEP_TEST_PLUGINS").filter(|_| !config.exists()) {
            std::fs::create_dir(&config).expect("a directory");
            std::os::unix::fs::symlink(plugins, config.join("cli-plugins")).expect("a link");
        }
        let host = format!("unix://{}", self.socket().display());
        command.env("DOCKER_HOST", host).env("DOCKER_CONFIG", config).env("HOME", &home)
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn belongings(&self) -> Belongings {
        Belongings {
            dir: self.dir.clone(),
            bridge: self.slot.bridge(),
            number: self.slot.number(),
            cgroup_parent: self.slot.cgroup_parent(),
            strict: self.kind == EngineKind::Skep,
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.belongings(), self.pid())
    }

    /// Removes everything through the API, looks whether it is gone, and stops the engine.
    fn finish(&mut self) {
        if self.daemon.is_none() {
            self.launch();
        }
        remove_everything(&self.api());
        let baseline = self.baseline.take().expect("a snapshot was taken at the start");
        let mut left = Vec::new();
        let deadline = std::time::Instant::now() + LEAK_DEADLINE; // teardown goes on after the answer
        while std::time::Instant::now() < deadline {
            left = self.snapshot().beyond(&baseline);
            if left.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
        self.stop();
        if self.builder.disk.is_some() {
            Command::new("umount", [self.data_root()]).run().success();
        }
        let left = self.belongings().processes_and_mounts();
        assert!(left.is_empty(), "left behind after the daemon's end:\n{}", left.join("\n"));
    }
}

/// Listens on the socket named first, and becomes the program named next with that socket as descriptor 3.
const PASS_SOCKET: &str = "
import os, socket, sys
path, program = sys.argv[1], sys.argv[2]
if os.path.exists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(64)
if listener.fileno() != 3:
    os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.execvpe(program, sys.argv[2:], dict(os.environ, LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'))
";

/// How long teardown that goes on behind the answer may take: some tests leave tens of thousands of files to be deleted.
const LEAK_DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// The client that commands go through.
fn client() -> PathBuf {
    match std::env::var("SKEP_TEST_CLIENT").as_deref() {
        Err(_) | Ok("skep") if std::env::var("SKEP_TEST_ENGINE").as_deref() != Ok("docker") => {
            binaries::program("skep")
        }
        Err(_) | Ok("docker" | "skep") => Path::new("docker").to_owned(),
        Ok(other) => panic!("SKEP_TEST_CLIENT={other}: neither skep nor docker"),
    }
}

/// Removes all containers, networks, volumes, images and results of builds of an engine.
fn remove_everything(api: &Api) {
    let list = |path: &str, key: Option<&str>| -> Vec<Value> {
        let list = api.call("GET", path, None);
        let list = key.map_or(&list, |key| &list[key]);
        list.as_array().cloned().unwrap_or_default()
    };
    let remove = |path: String| {
        let reply = api.request("DELETE", &path, None).unwrap_or_else(|error| panic!("DELETE {path}: {error}"));
        let gone = (200..300).contains(&reply.status) || matches!(reply.status, 404 | 409); // 409: on its way
        assert!(gone, "DELETE {path}: {} {}", reply.status, reply.text());
    };
    for container in list("/containers/json?all=1", None) {
        remove(format!("/containers/{}?force=1&v=1", container["Id"].as_str().unwrap_or_default()));
    }
    until("all containers are gone", || list("/containers/json?all=1", None).is_empty());
    let mut networks = list("/networks", None);
    // Those that only hold settings go after those that have these.
    networks.sort_by_key(|network| network["ConfigOnly"].as_bool());
    for network in networks {
        if !matches!(network["Name"].as_str(), Some("bridge" | "host" | "none")) {
            remove(format!("/networks/{}", network["Id"].as_str().unwrap_or_default()));
        }
    }
    for volume in list("/volumes", Some("Volumes")) {
        remove(format!("/volumes/{}?force=1", volume["Name"].as_str().unwrap_or_default()));
    }
    for image in list("/images/json?all=1", None) {
        remove(format!("/images/{}?force=1", image["Id"].as_str().unwrap_or_default()));
    }
    api.request("POST", "/build/prune?all=true", None).expect("prune the builder's cache");
}

impl Drop for Engine {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        let result = if failing {
            eprintln!("--- log of the engine ({})\n{}---", self.dir.display(), self.log());
            Ok(())
        } else {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.finish()))
        };
        if result.is_err() {
            eprintln!("--- log of the engine ({})\n{}---", self.dir.display(), self.log());
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        self.belongings().clean_up();
        if (failing || result.is_err()) && std::env::var_os("SKEP_TEST_KEEP").is_some() {
            eprintln!("kept: {}", self.dir.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }
}

//! A container with a shim, and a client that speaks the protocol over plain sockets.

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{Value, json};
use skep_runtime::protocol::{
    self, Attach, Exec, Exit, ExitRecord, LogConfig, Reply, Request, Rootfs, Scope, ShimConfig, StdinMode, Target,
    frame,
};
use skep_types::{ContainerId, ExecId, Signal};

/// How long anything may take that is sure to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) const ALL: Attach = Attach { stdin: true, stdout: true, stderr: true };
pub(crate) const OUTPUT: Attach = Attach { stdin: false, stdout: true, stderr: true };

/// What a test wants to be different.
pub(crate) struct Setup {
    pub(crate) config: ShimConfig,
    pub(crate) spec: Value,
    directory: tempfile::TempDir,
}

/// A container at its gate or beyond it. Dropping it kills it and checks that nothing is left.
pub(crate) struct Container {
    pub(crate) control: Link,
    pub(crate) pid: i32,
    pub(crate) bundle: PathBuf,
    pub(crate) cgroup: String,
    pub(crate) shim: Child,
    directory: tempfile::TempDir,
}

/// One connection to the shim.
pub(crate) struct Link {
    stream: UnixStream,
    inbox: Vec<u8>,
}

/// A container that runs `script` in busybox's shell.
pub(crate) fn shell(script: &str) -> Setup {
    command(&["/bin/busybox", "sh", "-c", script])
}

/// A container that runs a command.
pub(crate) fn command(args: &[&str]) -> Setup {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let directory = tempfile::Builder::new().prefix("skep-shim-").tempdir().unwrap();
    let rootfs = directory.path().join("bundle/rootfs");
    for name in ["bin", "proc", "dev", "sys", "tmp", "etc", "sbin"] {
        fs::create_dir_all(rootfs.join(name)).unwrap();
    }
    fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
    for applet in ["sh", "cat", "stty", "sleep", "echo", "tty", "head", "ps", "id", "yes", "wc", "true", "kill"] {
        symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
    let mut id = [0; 32];
    id[..4].copy_from_slice(&std::process::id().to_le_bytes());
    id[4..12].copy_from_slice(&NUMBER.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    let id = ContainerId::from_bytes(id);
    let config = ShimConfig {
        version: protocol::VERSION,
        id,
        rootfs: Rootfs::Spec,
        stdin: StdinMode::Closed,
        netns_fd: None,
        names: None,
        log: Some(LogConfig::new(directory.path().join("log"))),
        grace: Default::default(),
        lifetime: Default::default(),
        first: Default::default(),
    };
    Setup { config, spec: spec(args, &id), directory }
}

/// A process as the specification has it.
pub(crate) fn process(args: &[&str]) -> Value {
    json!({
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": ["PATH=/bin:/sbin", "TERM=xterm"],
        "cwd": "/",
    })
}

fn spec(args: &[&str], id: &ContainerId) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": process(args),
        "root": {"path": "rootfs"},
        "hostname": "shim",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        ],
        "linux": {
            "cgroupsPath": format!("/skep-test-shim/{id}"),
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}],
        },
    })
}

impl Setup {
    pub(crate) fn with_config(mut self, change: impl FnOnce(&mut ShimConfig)) -> Self {
        change(&mut self.config);
        self
    }

    pub(crate) fn with_spec(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.spec);
        self
    }

    pub(crate) fn stdin(self, mode: StdinMode) -> Self {
        self.with_config(|c| c.stdin = mode)
    }

    pub(crate) fn terminal(self) -> Self {
        self.with_spec(|s| {
            s["process"]["terminal"] = json!(true);
            s["process"]["consoleSize"] = json!({"height": 24, "width": 80});
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Spawns the shim; the first answer may be a failure.
    pub(crate) fn try_create(self) -> (Reply, Container) {
        let bundle = self.directory.path().join("bundle");
        fs::write(bundle.join(protocol::SPEC), self.spec.to_string()).unwrap();
        fs::write(bundle.join(protocol::SHIM_CONFIG), serde_json::to_vec(&self.config).unwrap()).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let shim = Command::new(env!("CARGO_BIN_EXE_skep-runtime"))
            .args(["shim", "--bundle"])
            .arg(&bundle)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut control = Link::new(ours);
        let first = control.next().expect("an answer");
        let cgroup = self.spec["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
        (first, Container { control, pid: 0, bundle, cgroup, shim, directory: self.directory })
    }

    pub(crate) fn create(self) -> Container {
        match self.try_create() {
            (Reply::Created { pid, .. }, mut container) => {
                container.pid = pid;
                container
            }
            (other, _) => panic!("not created: {other:?}"),
        }
    }

    pub(crate) fn start(self) -> Container {
        let mut container = self.create();
        assert_eq!(container.control.ask(&Request::Start), Reply::Started);
        container
    }
}

impl Container {
    pub(crate) fn connect(&self) -> Link {
        Link::new(UnixStream::connect(self.bundle.join(protocol::SHIM_SOCKET)).unwrap())
    }

    /// What the test made for the container beside its bundle.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// The text of all entries of the log.
    pub(crate) fn log(&self) -> String {
        log_text(&self.log_path())
    }

    pub(crate) fn attach(&self, streams: Attach) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert_eq!(self.connect().ask_with(&Request::Attach(streams), Some(theirs.into())), Reply::Attached);
        ours.set_read_timeout(Some(DEADLINE)).unwrap();
        ours
    }

    /// Runs a process in the container: the connection that will hear of its end, and its stdio.
    pub(crate) fn exec(&self, process: &Value, streams: Attach) -> (Link, Reply, UnixStream) {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let mut id = [0xee; 32];
        id[..8].copy_from_slice(&NUMBER.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let exec = Exec {
            id: ExecId::from_bytes(id),
            process: serde_json::from_value(process.clone()).unwrap(),
            attach: Some(streams),
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut link = self.connect();
        let reply = link.ask_with(&Request::Exec(Box::new(exec)), Some(theirs.into()));
        (link, reply, ours)
    }

    pub(crate) fn kill(&self) {
        let request = Request::Signal { target: Target::Container, signal: Signal::KILL, scope: Scope::Process };
        assert_eq!(self.connect().ask(&request), Reply::Done);
    }

    /// Waits for the end as the control connection tells it.
    pub(crate) fn wait(&mut self) -> Exit {
        self.control.exit_of(Target::Container)
    }

    pub(crate) fn record(&self) -> ExitRecord {
        serde_json::from_slice(&fs::read(self.bundle.join(protocol::EXIT_RECORD)).unwrap()).unwrap()
    }

    /// Waits until the shim's process has ended.
    pub(crate) fn wait_for_shim(&mut self) {
        until("the shim ends", || self.shim.try_wait().unwrap().is_some());
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.shim.try_wait().unwrap().is_none()
            && let Ok(stream) = UnixStream::connect(self.bundle.join(protocol::SHIM_SOCKET))
        {
            let request = Request::Signal { target: Target::Container, signal: Signal::KILL, scope: Scope::All };
            let _ = Link::new(stream).ask_with(&request, None);
        }
        let began = Instant::now();
        while self.shim.try_wait().unwrap().is_none() && began.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(2));
        }
        if std::thread::panicking() {
            return;
        }
        assert!(self.shim.try_wait().unwrap().is_some(), "the shim does not end");
        assert!(!self.bundle.join(protocol::SHIM_SOCKET).exists(), "the socket is left");
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap() {
            let path = hierarchy.unwrap().path().join(self.cgroup.trim_start_matches('/'));
            assert!(!path.exists(), "{} is left", path.display());
        }
    }
}

impl Link {
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Link { stream, inbox: Vec::new() }
    }

    pub(crate) fn send(&mut self, request: &Request, passed: Option<OwnedFd>) {
        let bytes = frame::encode(request).unwrap();
        let mut sent = 0;
        if let Some(fd) = &passed {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let rights = [fd.as_fd()];
            control.push(SendAncillaryMessage::ScmRights(&rights));
            sent =
                rustix::net::sendmsg(&self.stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
        }
        self.stream.write_all(&bytes[sent..]).unwrap();
    }

    /// The next message; `None` when the shim has closed the connection.
    pub(crate) fn next(&mut self) -> Option<Reply> {
        loop {
            if let Some((reply, length)) = frame::decode(&self.inbox).unwrap() {
                self.inbox.drain(..length);
                return Some(reply);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).expect("an answer in time") {
                0 => return None,
                count => self.inbox.extend_from_slice(&buffer[..count]),
            }
        }
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Reply {
        self.ask_with(request, None)
    }

    pub(crate) fn ask_with(&mut self, request: &Request, passed: Option<OwnedFd>) -> Reply {
        self.send(request, passed);
        self.next().expect("an answer")
    }

    /// Waits for the end of a process.
    pub(crate) fn exit_of(&mut self, wanted: Target) -> Exit {
        loop {
            match self.next().expect("an exit") {
                Reply::Exited { target, exit } if target == wanted => return exit,
                _ => {}
            }
        }
    }

    /// Waits for the end of any exec.
    pub(crate) fn exit(&mut self) -> Exit {
        loop {
            if let Reply::Exited { exit, .. } = self.next().expect("an exit") {
                return exit;
            }
        }
    }
}

/// The text of all entries of a log file.
pub(crate) fn log_text(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["log"].as_str().unwrap().to_owned()).collect()
}

/// Reads a data socket to its end.
pub(crate) fn read_all(mut stream: &UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("output in time");
    bytes
}

/// Takes Docker's frames apart: standard output and standard error.
pub(crate) fn demultiplex(mut bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        assert_eq!(header[1..4], [0; 3]);
        match header[0] {
            1 => stdout.extend_from_slice(&rest[..length]),
            2 => stderr.extend_from_slice(&rest[..length]),
            other => panic!("stream {other}"),
        }
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty());
    (stdout, stderr)
}

/// Standard output of a data socket, as text.
pub(crate) fn stdout_of(stream: &UnixStream) -> String {
    String::from_utf8(demultiplex(&read_all(stream)).0).unwrap()
}

/// Ends the input of a data socket.
pub(crate) fn end_input(stream: &UnixStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < DEADLINE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

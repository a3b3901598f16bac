//! From the shim's own start to an init that waits at the gate.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::connection::Connection;
use super::dns::NameServer;
use super::event_loop::{Bundle, CONTROL, INIT, Pids, Shim};
use super::log::Log;
use super::poll::{EventFlags, Poller, Token, Watched};
use super::process::{InputEnd, READ_SIZE};
use super::streams::{self, Wanted};
use super::{failed, refused};
use crate::cgroup::{Cgroup, CgroupPath};
use crate::container::{self, LaunchOptions};
use crate::protocol::{
    self, EXIT_RECORD, Failure, FailureKind, PID_FILE, Phase, Reply, SHIM_CONFIG, SHIM_SOCKET, SPEC, ShimConfig,
    StdinMode, Target, frame,
};
use crate::spec::{NamespaceKind, Spec};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;

/// Connections that may wait to be accepted. The kernel has its own limit, net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// The descriptors with which the shim was spawned.
struct Inherited {
    control: OwnedFd,
    netns: OwnedFd,
}

/// Starts everything. On failure, tells the control connection and returns the exit code.
pub(super) fn start(bundle: &Path) -> Result<Shim, u8> {
    let Ok(inherited) = take_descriptors() else { return Err(125) };
    let control = inherited.control.try_clone();
    set_up(bundle, inherited).map_err(|failure| {
        if let (Ok(control), Ok(bytes)) = (control, frame::encode(&Reply::Failed(failure))) {
            let _ = rustix::net::send(&control, &bytes, SendFlags::NOSIGNAL);
        }
        125
    })
}

/// Moves the inherited descriptors out of the way and puts `/dev/null` in their places. Standard error too: whoever spawned the
/// shim may wait for the end of it.
fn take_descriptors() -> io::Result<Inherited> {
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    let netns = io::stdout().as_fd().try_clone_to_owned()?;
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(Inherited { control, netns })
}

fn set_up(bundle: &Path, inherited: Inherited) -> Result<Shim, Failure> {
    skep_sys::event::return_large_blocks();
    // Fails only for the leader of a process group, which then is cut off from terminals well enough.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(|e| failed("prctl", e))?;
    let signals = skep_sys::event::signal_fd(&[SIGCHLD, SIGTERM, SIGINT, SIGHUP]).map_err(|e| failed("signalfd", e))?;
    let path = bundle.canonicalize().map_err(|e| failed("open the bundle", e))?;
    let directory = rustix::fs::open(&path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| failed("open the bundle", e))?;
    let bundle = Bundle { path, directory };
    rustix::process::chdir("/").map_err(|e| failed("chdir", e))?;

    let config = read_config(&bundle)?;
    let spec_text = fs::read(bundle.path.join(SPEC)).map_err(|e| failed("read config.json", e))?;
    let spec = Spec::from_slice(&spec_text)
        .map_err(|e| refused(FailureKind::Other, "read config.json", &format!("config.json: {e}")))?;
    drop(spec_text);

    let _ = rustix::fs::unlinkat(&bundle.directory, EXIT_RECORD, AtFlags::empty());
    let cgroup = make_cgroup(&config, &spec)?;
    let launched =
        Launching { bundle: &bundle, config: &config, spec: &spec, inherited: &inherited, cgroup: &cgroup.0 };
    match launched.go() {
        Ok(parts) => build(bundle, config, &spec, inherited, signals, cgroup, parts),
        Err(failure) => {
            let _ = cgroup.0.remove();
            let _ = rustix::fs::unlinkat(&bundle.directory, SHIM_SOCKET, AtFlags::empty());
            Err(failure)
        }
    }
}

fn read_config(bundle: &Bundle) -> Result<ShimConfig, Failure> {
    let text = fs::read(bundle.path.join(SHIM_CONFIG)).map_err(|e| failed("read shim.json", e))?;
    let config: ShimConfig = serde_json::from_slice(&text)
        .map_err(|e| refused(FailureKind::Other, "read shim.json", &format!("shim.json: {e}")))?;
    match config.version {
        protocol::VERSION => Ok(config),
        other => Err(refused(
            FailureKind::Other,
            "read shim.json",
            &format!("shim.json is of version {other}, this runtime has version {}", protocol::VERSION),
        )),
    }
}

/// The cgroup with its limits, and what the machine refused of them.
fn make_cgroup(config: &ShimConfig, spec: &Spec) -> Result<(Cgroup, Vec<String>), Failure> {
    let broken = |e: crate::cgroup::Error| refused(FailureKind::Other, "cgroup", &e.to_string());
    let linux = spec.linux.as_ref();
    let path = linux.and_then(|l| l.cgroups_path.as_deref()).and_then(Path::to_str);
    let path = CgroupPath::new(path, &config.id.to_string()).map_err(broken)?;
    let cgroup = Cgroup::create(&path).map_err(broken)?;
    let Some(resources) = linux.and_then(|l| l.resources.as_ref()) else { return Ok((cgroup, Vec::new())) };
    match cgroup.apply(resources) {
        Ok(warnings) => Ok((cgroup, warnings.iter().map(ToString::to_string).collect())),
        Err(e) => {
            let _ = cgroup.remove();
            Err(broken(e))
        }
    }
}

struct Launching<'a> {
    bundle: &'a Bundle,
    config: &'a ShimConfig,
    spec: &'a Spec,
    inherited: &'a Inherited,
    cgroup: &'a Cgroup,
}

/// What a launch gives.
struct Parts {
    log: Option<Log>,
    listener: OwnedFd,
    ours: streams::Ours,
    launched: container::Launched,
}

impl Launching<'_> {
    fn go(&self) -> Result<Parts, Failure> {
        let log = match &self.config.log {
            Some(log) => Some(Log::open(log).map_err(|e| failed("open the log", e))?),
            None => None,
        };
        let listener = listen(self.bundle).map_err(|e| failed("listen", e))?;
        let process = self.spec.process.as_ref();
        let process = process.ok_or_else(|| refused(FailureKind::Other, "launch", "config.json has no process"))?;
        let wanted = Wanted { stdin: self.config.stdin != StdinMode::Closed, stdout: true, stderr: true };
        let (stdio, ours) = streams::make(process, wanted).map_err(|e| failed("pipe", e))?;
        let launched = container::launch(LaunchOptions {
            id: &self.config.id.to_string(),
            spec: self.spec,
            bundle: &self.bundle.path,
            rootfs: match &self.config.rootfs {
                protocol::Rootfs::Spec => container::Rootfs::Spec,
                protocol::Rootfs::Overlay { lower, upper, work, sync, owners } => {
                    container::Rootfs::Overlay { lower, upper, work, sync: *sync, owners: *owners }
                }
            },
            stdio,
            netns: self.config.netns_fd.map(|_| self.inherited.netns.as_fd()),
            cgroup: Some(self.cgroup),
            gate: None,
            preserve_fds: 0,
            keyring: container::Keyring::Own,
            first: self.config.first,
        })?;
        Ok(Parts { log, listener, ours, launched })
    }
}

fn build(
    bundle: Bundle,
    config: ShimConfig,
    spec: &Spec,
    inherited: Inherited,
    signals: OwnedFd,
    (cgroup, warnings): (Cgroup, Vec<String>),
    parts: Parts,
) -> Result<Shim, Failure> {
    let Parts { log, listener, ours, mut launched } = parts;
    let poller = Poller::new().map_err(|e| failed("epoll_create", e))?;
    let on_input_end = match config.stdin {
        StdinMode::Once => InputEnd::ClosesInput,
        StdinMode::Open | StdinMode::Closed => InputEnd::Detaches,
    };
    let patience = Some(Duration::from_millis(config.grace.slow_client_ms));
    let init = ours.join(&poller, &mut launched, (INIT, Target::Container), on_input_end, patience);
    let mut init = init.map_err(|e| failed("dup", e))?;
    init.log = log;

    let mut signals = Watched::new(&poller, signals, Token::Signals);
    signals.watch(Some(EventFlags::IN));
    let mut listener = Watched::new(&poller, listener, Token::Listener);
    listener.watch(Some(EventFlags::IN));
    let mut connection = Connection::new(&poller, inherited.control, CONTROL);
    connection.subscribed = true;
    write_pid(&bundle, init.pid).map_err(|e| failed("write the pid file", e))?;
    connection.send(&Reply::Created { pid: init.pid, start_time: init.start_time, warnings });
    // The engine has things to do before it says "start"; nothing asks for names before that.
    let names = config.names.clone().map(|file| open_names(&poller, inherited.netns, &config, init.pid, file));
    let names = names.transpose().unwrap_or_else(|error| {
        let text = format!("the container has no name server: {error}");
        connection.send(&Reply::Trouble(text));
        None
    });

    Ok(Shim {
        poller,
        signals,
        listener: Some(listener),
        bundle,
        config,
        cgroup: Some(cgroup),
        pids: pids(spec),
        phase: Phase::Created,
        at_gate: Some(launched),
        abandoned: false,
        failure: None,
        started_at: None,
        processes: BTreeMap::from([(INIT, init)]),
        next_process: INIT,
        connections: BTreeMap::from([(CONTROL, connection)]),
        next_connection: CONTROL + 1,
        waiters: BTreeMap::new(),
        names: names.map(Box::new),
        buffer: vec![0; READ_SIZE],
    })
}

/// The name server, in the namespace that the container was given or has made for itself.
fn open_names(poller: &Poller, given: OwnedFd, config: &ShimConfig, pid: i32, file: PathBuf) -> io::Result<NameServer> {
    let netns = match config.netns_fd {
        Some(_) => given,
        None => fs::File::open(format!("/proc/{pid}/ns/net"))?.into(),
    };
    NameServer::open(poller, netns, file)
}

/// A container has pids of its own if it gets a new pid namespace, not one to join.
fn pids(spec: &Spec) -> Pids {
    let namespaces = spec.linux.as_ref().map(|l| l.namespaces.as_slice()).unwrap_or_default();
    match namespaces.iter().any(|n| n.kind == NamespaceKind::Pid && n.path.is_none()) {
        true => Pids::Own,
        false => Pids::Shared,
    }
}

/// The listening socket in the bundle, mode 0600. A socket that is there already is of a shim that was killed.
fn listen(bundle: &Bundle) -> io::Result<OwnedFd> {
    let _ = rustix::fs::unlinkat(&bundle.directory, SHIM_SOCKET, AtFlags::empty());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let path = format!("/proc/self/fd/{}/{SHIM_SOCKET}", bundle.directory.as_raw_fd());
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = rustix::net::bind(&socket, &SocketAddrUnix::new(path)?);
    rustix::process::umask(before);
    bound?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn write_pid(bundle: &Bundle, pid: i32) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&bundle.directory, PID_FILE, flags, Mode::from_raw_mode(0o644))?;
    fs::File::from(fd).write_all(pid.to_string().as_bytes())
}

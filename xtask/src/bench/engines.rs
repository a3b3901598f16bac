//! The engines under test, each with roots of its own, started and stopped here.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::peers::Peers;

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Engines {
    pub(super) all: Vec<Engine>,
    _folder: tempfile::TempDir,
}

pub(super) struct Engine {
    pub(super) name: &'static str,
    /// Program and leading arguments of the command line.
    pub(super) client: Vec<String>,
    environment: Vec<(String, String)>,
    pub(super) socket: Option<PathBuf>,
    /// A port of the host that nobody else uses here.
    pub(super) port: u16,
    daemon: Option<Child>,
    /// What tells the engine's own processes from others: a text in their command line.
    mark: String,
}

pub(super) const NAMES: [&str; 3] = ["skep", "docker", "podman"];

impl Engines {
    pub(super) fn start(without: &[String]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("skep-bench-").tempdir()?;
        let image = image(folder.path())?;
        let wanted = |name: &str| !without.iter().any(|left_out| left_out == name);
        // Docker makes all forwarding drop unless it finds it switched on.
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("switching IPv4 forwarding on")?;
        let wanted = NAMES.into_iter().filter(|name| wanted(name));
        let all = wanted.map(|name| Engine::start(name, folder.path())).collect::<Result<Vec<_>>>()?;
        for engine in &all {
            engine.run(&["import".to_owned(), image.display().to_string(), "busybox:latest".to_owned()])?;
        }
        Ok(Engines { all, _folder: folder })
    }
}

/// A root file system of Debian's static busybox as an archive.
pub(super) fn image(folder: &Path) -> Result<PathBuf> {
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("bin"))?;
    fs::create_dir_all(tree.join("etc"))?;
    fs::copy("/bin/busybox", tree.join("bin/busybox")).context("the package busybox-static is needed")?;
    for name in ["sh", "true", "sleep", "cat", "echo"] {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(name))?;
    }
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    fs::write(tree.join("etc/group"), "root:x:0:\n")?;
    let archive = folder.join("busybox.tar");
    let status = Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&archive).arg(".").status()?;
    ensure!(status.success(), "tar failed");
    Ok(archive)
}

fn skep(folder: &Path) -> Result<Engine> {
    let program = crate::paths::release("skep");
    let root = folder.join("skep");
    let socket = root.join("skep.sock");
    fs::create_dir_all(&root)?;
    let host = format!("unix://{}", socket.display());
    let mut command = Command::new(&program);
    command
        .args(["daemon", "--bridge", "skepbench0", "--bip", "10.213.0.1/24", "-H", &host])
        .arg("--data-root")
        .arg(root.join("data"))
        .arg("--exec-root")
        .arg(root.join("exec"))
        .arg("--pidfile")
        .arg(root.join("pid"));
    let daemon = spawn(command, &root.join("log"))?;
    wait_for(&socket, &root.join("log"))?;
    Ok(Engine {
        name: "skep",
        client: vec![program.display().to_string(), "-H".to_owned(), host],
        environment: Vec::new(),
        socket: Some(socket),
        port: 38101,
        daemon: Some(daemon),
        mark: root.display().to_string(),
    })
}

fn docker(folder: &Path) -> Result<Engine> {
    let peers = Peers::fetch(&crate::paths::target())?;
    let root = folder.join("docker");
    let socket = root.join("docker.sock");
    fs::create_dir_all(&root)?;
    let host = format!("unix://{}", socket.display());
    let mut command = Command::new(peers.program("dockerd")?);
    command
        .env("PATH", peers.path())
        .args(["--bip", "10.214.0.1/24", "--group", "root", "--storage-driver", "overlay2", "-H", &host])
        .arg("--data-root")
        .arg(root.join("data"))
        .arg("--exec-root")
        .arg(root.join("exec"))
        .arg("--pidfile")
        .arg(root.join("pid"));
    let daemon = spawn(command, &root.join("log"))?;
    wait_for(&socket, &root.join("log"))?;
    Ok(Engine {
        name: "docker",
        client: vec![peers.program("docker")?.display().to_string(), "-H".to_owned(), host],
        environment: Vec::new(),
        socket: Some(socket),
        port: 38102,
        daemon: Some(daemon),
        mark: root.display().to_string(),
    })
}

fn podman(folder: &Path) -> Result<Engine> {
    let root = folder.join("podman");
    fs::create_dir_all(&root)?;
    // Podman's default limits are more than a machine without CAP_SYS_RESOURCE can give.
    let settings = root.join("containers.conf");
    let networks = root.join("networks");
    let text = format!(
        "[containers]\ndefault_ulimits = [\"nofile=512:512\", \"nproc=512:512\"]\n\
         [network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{}\"\n",
        networks.display()
    );
    fs::write(&settings, text)?;
    let path = |name: &str| root.join(name).display().to_string();
    Ok(Engine {
        name: "podman",
        client: vec![
            "podman".to_owned(),
            "--root".to_owned(),
            path("data"),
            "--runroot".to_owned(),
            path("run"),
            "--cgroup-manager".to_owned(),
            "cgroupfs".to_owned(),
            // Debian 12's crun refuses the hybrid cgroup layout.
            "--runtime".to_owned(),
            "runc".to_owned(),
        ],
        environment: vec![
            ("CONTAINERS_REGISTRIES_CONF".to_owned(), "/dev/null".to_owned()),
            ("CONTAINERS_CONF".to_owned(), settings.display().to_string()),
        ],
        socket: None,
        port: 38103,
        daemon: None,
        mark: root.display().to_string(),
    })
}

fn spawn(mut command: Command, log: &Path) -> Result<Child> {
    let log = fs::File::create(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    command.spawn().with_context(|| format!("{command:?}"))
}

fn wait_for(socket: &Path, log: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while request(socket, "GET", "/_ping", "").is_err() {
        if Instant::now() > deadline {
            bail!("no answer on {}:\n{}", socket.display(), fs::read_to_string(log).unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

impl Engine {
    /// Starts one by its name, in a folder of its own below `folder`.
    pub(super) fn start(name: &str, folder: &Path) -> Result<Engine> {
        match name {
            "skep" => skep(folder),
            "docker" => docker(folder),
            "podman" => podman(folder),
            other => bail!("there is no engine {other}"),
        }
    }

    /// Makes an engine without a daemon serve the API.
    pub(super) fn serve(&mut self) -> Result<()> {
        if self.socket.is_none() {
            let root = Path::new(&self.mark);
            let (socket, log) = (root.join("api.sock"), root.join("log"));
            let mut command = self.command(&["system", "service", "--time", "0"].map(str::to_owned));
            command.arg(format!("unix://{}", socket.display()));
            self.daemon = Some(spawn(command, &log)?);
            wait_for(&socket, &log)?;
            self.socket = Some(socket);
        }
        Ok(())
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.client[0]);
        command.args(&self.client[1..]).args(arguments).envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// Runs a command of the engine's command line; its failure is an error.
    pub(super) fn run(&self, arguments: &[String]) -> Result<()> {
        self.ask(arguments).map(drop)
    }

    /// The same, with what the command prints.
    pub(super) fn ask(&self, arguments: &[String]) -> Result<String> {
        let mut command = self.command(arguments);
        let output = command.output().with_context(|| format!("{command:?}"))?;
        ensure!(
            output.status.success(),
            "{} {}: {}",
            self.name,
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// One request over the API; answers the JSON of a successful one.
    pub(super) fn call(&self, method: &str, path: &str, body: &str) -> Result<String> {
        request(self.socket.as_deref().context("this engine has no socket")?, method, path, body)
    }

    /// The daemon's process, if it has one.
    pub(super) fn daemon_id(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// The life of a container in four requests.
    pub(super) fn life_over_api(&self) -> Result<Duration> {
        let started = Instant::now();
        let body = r#"{"Image":"busybox:latest","Cmd":["true"]}"#;
        let created = self.call("POST", "/containers/create", body)?;
        let created: serde_json::Value = serde_json::from_str(&created)?;
        let id = created["Id"].as_str().context("no id in the answer")?.to_owned();
        self.call("POST", &format!("/containers/{id}/start"), "")?;
        self.call("POST", &format!("/containers/{id}/wait"), "")?;
        self.call("DELETE", &format!("/containers/{id}"), "")?;
        Ok(started.elapsed())
    }

    /// Proportional set size of all processes of the engine itself (daemons, shims, monitors), in KiB. What runs in the
    /// containers does not count.
    pub(super) fn memory(&self) -> Result<f64> {
        let mut total = 0.0;
        let daemon = self.daemon.as_ref().map(Child::id);
        for entry in fs::read_dir("/proc")?.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if Some(pid) == daemon || line.contains(&self.mark) {
                let rollup = fs::read_to_string(entry.path().join("smaps_rollup")).unwrap_or_default();
                let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
                total +=
                    pss.and_then(|text| text.trim().trim_end_matches("kB").trim().parse::<f64>().ok()).unwrap_or(0.0);
            }
        }
        Ok(total)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let listed = self.ask(&["ps", "-aq"].map(str::to_owned)).unwrap_or_default();
        let ids: Vec<String> = listed.split_whitespace().map(str::to_owned).collect();
        if !ids.is_empty() {
            let _ = self.run(&[vec!["rm".to_owned(), "-f".to_owned()], ids].concat());
        }
        if let Some(daemon) = &mut self.daemon {
            // Asked first, so that it can clear its links and mounts away.
            let _ = Command::new("kill").arg(daemon.id().to_string()).status();
            let _ = daemon.wait();
        }
        let _ = Command::new("ip").args(["link", "delete", "skepbench0"]).stderr(Stdio::null()).status();
        let _ = Command::new("nft").args(["delete", "table", "inet", "skepbench0"]).stderr(Stdio::null()).status();
    }
}

/// One request over a connection of its own; answers the body of a successful one.
fn request(socket: &Path, method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    write!(
        stream,
        "{method} /v1.43{path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    let status = head.split(' ').nth(1).unwrap_or("");
    ensure!(status.starts_with('2'), "{method} {path}: {head}\n{body}");
    // A body in chunks is one line of JSON between two lengths here.
    let json = body.find('{').map_or(body, |start| &body[start..=body.rfind('}').unwrap_or(body.len() - 1)]);
    Ok(json.to_owned())
}

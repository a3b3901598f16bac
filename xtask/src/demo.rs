//! `make demo`: a container's life, each command shown before it runs, on an engine of its own that leaves nothing behind.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// What is shown, with a word on why.
const STEPS: [(&str, &str); 13] = [
    ("The engine answers:", "skep version"),
    ("An image made of one program, Debian's static busybox:", "tar -C rootfs -c . | skep import - busybox:demo"),
    ("", "skep images"),
    (
        "A web server in a container; its page is a folder of this machine, its port 80 is published as 18080:",
        "skep run -d --name web -p 18080:80 -m 64m --cpus 0.5 -v \"$PWD/site:/www:ro\" busybox:demo httpd -f -vv -p 80 -h /www",
    ),
    (
        "The page, through the published port:",
        "curl --silent --show-error --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:18080/",
    ),
    ("", "skep ps"),
    ("What the server said:", "skep logs web"),
    ("A second process inside:", "skep exec web ps"),
    ("What it uses, within its limits of 64 MiB and half a processor:", "skep stats --no-stream web"),
    (
        "Who can be asked what happened:",
        "skep inspect -f '{{.State.Status}} since {{.State.StartedAt}}, address {{.NetworkSettings.IPAddress}}' web",
    ),
    ("The end:", "skep stop -t 1 web"),
    ("", "skep rm -v web"),
    ("", "skep rmi busybox:demo"),
];

pub(crate) fn run() -> Result<ExitCode> {
    println!("Building skep (release) ...");
    crate::bench::build()?;
    let folder = tempfile::Builder::new().prefix("skep-demo-").tempdir()?;
    prepare(folder.path())?;
    let engine = Engine::start(folder.path())?;
    let path = format!(
        "{}:{}",
        crate::paths::release("skep").parent().unwrap_or(Path::new(".")).display(),
        std::env::var("PATH").unwrap_or_default()
    );
    for (why, command) in STEPS {
        if !why.is_empty() {
            println!("\n# {why}");
        }
        println!("$ {command}");
        let status = Command::new("sh")
            .args(["-c", command])
            .current_dir(folder.path())
            .env("PATH", &path)
            .env("DOCKER_HOST", &engine.host)
            .stdin(Stdio::null())
            .status()
            .context("sh")?;
        ensure!(status.success(), "`{command}` failed with {status}\n{}", engine.log());
    }
    drop(engine);
    println!("\nAll of it is gone again. On a machine of your own: make install, then skep run ...");
    Ok(ExitCode::SUCCESS)
}

fn prepare(folder: &Path) -> Result<()> {
    let root = folder.join("rootfs");
    for part in ["bin", "etc", "tmp"] {
        fs::create_dir_all(root.join(part))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("Debian's package busybox-static is needed")?;
    for applet in ["sh", "ls", "ps", "cat", "httpd", "wget", "id"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    fs::create_dir_all(folder.join("site"))?;
    fs::write(folder.join("site/index.html"), "<h1>Hello from a cell of the skep</h1>\n")?;
    Ok(())
}

/// A daemon with roots, socket and bridge of its own.
struct Engine {
    daemon: Child,
    host: String,
    log: std::path::PathBuf,
}

impl Engine {
    fn start(folder: &Path) -> Result<Self> {
        let host = format!("unix://{}", folder.join("skep.sock").display());
        let log = folder.join("daemon.log");
        let file = fs::File::create(&log)?;
        let mut command = Command::new(crate::paths::release("skep"));
        command
            .args(["daemon", "--bridge", "skepdemo0", "--bip", "10.219.77.1/24", "-H", &host])
            .arg("--data-root")
            .arg(folder.join("data"))
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("pid"));
        println!("\n# The engine, with roots and a bridge of its own:\n$ {}", shown(&command));
        let daemon = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0).spawn()?;
        let engine = Engine { daemon, host, log };
        let socket = folder.join("skep.sock");
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            ensure!(Instant::now() < deadline, "the daemon does not answer:\n{}", engine.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(engine)
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let program = crate::paths::release("skep");
        let skep = |arguments: &[&str]| {
            let mut command = Command::new(&program);
            let _ =
                command.args(["-H", &self.host]).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        };
        skep(&["rm", "-f", "web"]);
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
        let _ = Command::new("ip").args(["link", "delete", "skepdemo0"]).stderr(Stdio::null()).status();
        let _ = Command::new("nft").args(["delete", "table", "inet", "skepdemo0"]).stderr(Stdio::null()).status();
    }
}

fn shown(command: &Command) -> String {
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once("skep".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

//! A bundle in a directory of its own, and the commands run on it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

const TOOLS: [&str; 20] = [
    "sh", "ls", "cat", "true", "false", "echo", "id", "mount", "ps", "sleep", "env", "grep", "stat", "pwd", "readlink",
    "hostname", "chmod", "kill", "touch", "tty",
];

/// A bundle with busybox, removed when dropped.
pub(crate) struct Bundle {
    top: PathBuf,
    /// The id of its container.
    pub(crate) id: String,
    /// Its config.json.
    pub(crate) config: Value,
}

impl Bundle {
    /// With our own example configuration, without a terminal.
    pub(crate) fn new() -> Self {
        let mut bundle = Self::empty();
        let written = Command::new(env!("CARGO_BIN_EXE_skep-runtime")).args(["spec", "-b"]).arg(&bundle.top).status();
        assert!(written.expect("skep-runtime runs").success());
        bundle.read();
        bundle
    }

    /// With the example configuration of runc.
    pub(crate) fn of_runc() -> Self {
        let mut bundle = Self::empty();
        let written = Command::new("runc").args(["spec", "-b"]).arg(&bundle.top).status();
        assert!(written.expect("runc runs").success());
        bundle.read();
        bundle
    }

    fn empty() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("oci-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let top = std::env::temp_dir().join(format!("skep-{id}"));
        let bin = top.join("rootfs/bin");
        fs::create_dir_all(&bin).expect("a directory");
        fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox is installed");
        for tool in TOOLS {
            symlink("busybox", bin.join(tool)).expect("a link");
        }
        Self { top, id, config: Value::Null }
    }

    fn read(&mut self) {
        let text = fs::read(self.top.join("config.json")).expect("config.json");
        self.config = serde_json::from_slice(&text).expect("json");
        self.config["process"]["terminal"] = json!(false);
    }

    /// With another command.
    pub(crate) fn command(mut self, args: &[&str]) -> Self {
        self.config["process"]["args"] = json!(args);
        self
    }

    /// With a shell script.
    pub(crate) fn script(self, script: &str) -> Self {
        self.command(&["sh", "-c", script])
    }

    /// With another configuration.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// The root file system.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.top.join("rootfs")
    }

    /// The bundle's directory.
    pub(crate) fn top(&self) -> &Path {
        &self.top
    }

    /// Runs a command of a runtime: `args`, then what is common.
    fn runtime(&self, program: &str, args: &[&str]) -> Command {
        let text = serde_json::to_vec(&self.config).expect("json");
        fs::write(self.top.join("config.json"), text).expect("written");
        let mut command = Command::new(program);
        command.arg("--root").arg(self.top.join("state")).args(args).current_dir(&self.top).stdin(Stdio::null());
        command
    }

    /// Runs a command of ours.
    pub(crate) fn skep(&self, args: &[&str]) -> Said {
        Said::of(self.runtime(env!("CARGO_BIN_EXE_skep-runtime"), args).output().expect("skep-runtime runs"))
    }

    /// As [`Bundle::skep`], for a command that leaves a process behind, which would keep a pipe open.
    pub(crate) fn quietly(&self, args: &[&str]) -> Said {
        let error = self.top.join("stderr");
        let file = fs::File::create(&error).expect("a file");
        let status = self
            .runtime(env!("CARGO_BIN_EXE_skep-runtime"), args)
            .stdout(Stdio::null())
            .stderr(file)
            .status()
            .expect("skep-runtime runs");
        Said { code: status.code(), out: String::new(), error: fs::read_to_string(error).expect("text") }
    }

    /// `run` under us.
    pub(crate) fn run(&self) -> Said {
        self.skep(&["run", &self.id])
    }

    /// `run` under runc.
    pub(crate) fn run_with_runc(&self) -> Said {
        let mut command = self.runtime("runc", &["run", &self.id]);
        Said::of(command.output().expect("runc runs"))
    }

    /// The output of a container that must succeed.
    pub(crate) fn output(&self) -> String {
        let said = self.run();
        assert_eq!((said.code, said.error.as_str()), (Some(0), ""), "{}", said.out);
        said.out
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.skep(&["delete", "-f", &self.id]);
        let left: Vec<_> = fs::read_dir(self.top.join("state")).into_iter().flatten().flatten().collect();
        let _ = fs::remove_dir_all(&self.top);
        if std::thread::panicking() {
            return;
        }
        assert!(left.is_empty(), "the state directory is empty: {left:?}");
        for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
            assert!(!hierarchy.path().join(&self.id).exists(), "a cgroup is left in {hierarchy:?}");
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&self.id), "the host sees no mount");
    }
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), out: text(output.stdout), error: text(output.stderr) }
    }
}

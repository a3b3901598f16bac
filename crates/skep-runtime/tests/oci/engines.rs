//! As the runtime of another engine: Podman, with an image made here and all its files in a directory of the test's own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::bundle::Bundle;

struct Podman {
    top: PathBuf,
}

impl Podman {
    fn new(bundle: &Bundle) -> Self {
        let podman = Self { top: bundle.top().join("podman") };
        let archive = bundle.top().join("image.tar");
        let status = Command::new("tar").arg("-C").arg(bundle.rootfs()).arg("-cf").arg(&archive).arg(".").status();
        assert!(status.expect("tar runs").success());
        let imported = podman.run(&["import", archive.to_str().expect("text"), "base"]);
        assert!(imported.status.success(), "{imported:?}");
        podman
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.top.join("root")).arg("--runroot").arg(self.top.join("run"));
        command.args(["--cgroup-manager", "cgroupfs", "--storage-driver", "vfs", "--runtime"]);
        command.arg(env!("CARGO_BIN_EXE_skep-runtime")).args(args).stdin(Stdio::null());
        command.output().expect("podman is installed")
    }

    /// `podman run` with options; limits are named because Podman's default needs CAP_SYS_RESOURCE.
    fn container(&self, options: &[&str], command: &[&str]) -> (Option<i32>, String) {
        let common = ["run", "--rm", "--network", "none", "--ulimit", "nofile=512:512", "--ulimit", "nproc=512:512"];
        let output = self.run(&[&common, options, &["base"], command].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.run(&["rm", "-f", "-a", "-t", "0"]);
        self.run(&["rmi", "-f", "-a"]);
        let _ = fs::remove_dir_all(&self.top);
    }
}

#[test]
fn podman_runs_containers_with_us() {
    if Command::new("podman").arg("--version").output().is_err() {
        println!("SKIPPED Podman with skep-runtime: podman is not on this machine");
        return;
    }
    let bundle = Bundle::new();
    let podman = Podman::new(&bundle);
    let (code, out) =
        podman.container(&["--hostname", "queen", "-e", "A=b"], &["sh", "-c", "hostname; echo $A; exit 3"]);
    assert_eq!((code, out.as_str()), (Some(3), "queen\nb\n"));
    assert_eq!(podman.container(&[], &["nosuch"]).0, Some(127));
    assert_eq!(podman.container(&["-t"], &["tty"]), (Some(0), "/dev/pts/0\r\n".to_owned()));
    let maps = ["--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000"];
    let (code, out) = podman.container(&maps, &["cat", "/proc/self/uid_map"]);
    assert_eq!((code, out.split_whitespace().collect::<Vec<_>>()), (Some(0), vec!["0", "100000", "1000"]));

    let name = bundle.id.as_str();
    let (code, _) = podman.container(&["-d", "--name", name], &["sleep", "100"]);
    assert_eq!(code, Some(0));
    let output = podman.run(&["exec", name, "sh", "-c", "echo inside; exit 5"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(5), &b"inside\n"[..]));
    assert!(podman.run(&["pause", name]).status.success() && podman.run(&["unpause", name]).status.success());
    assert!(podman.run(&["rm", "-f", "-t", "0", name]).status.success());
}

//! A machine to reach by ssh: OpenSSH's server on the loopback interface, with keys and a configuration of its own. Nothing of the
//! machine's or the user's own ssh is read or written.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::{Command, binaries, until};

/// A running server, which ends and disappears with this value.
#[derive(Debug)]
pub struct Sshd {
    port: u16,
    server: Child,
    dir: tempfile::TempDir,
}

impl Sshd {
    /// Starts a server on a free port. Who logs in finds `skep` in the path.
    #[track_caller]
    pub fn start() -> Sshd {
        let dir = tempfile::Builder::new().prefix("skep-sshd-").tempdir().expect("a temporary directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        for key in ["host", "user"] {
            Command::new("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]).run().success();
        }
        // Where the server puts its unprivileged part; Debian makes it when its service starts.
        std::fs::create_dir_all("/run/sshd").expect("the server's empty directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        let programs = binaries::program("skep").parent().map(Path::to_owned).unwrap_or_default();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nSetEnv PATH={}:/usr/bin:/bin\n",
            path("host"),
            path("user.pub"),
            programs.display()
        );
        std::fs::write(path("sshd_config"), config).expect("write the server's configuration");
        let client = format!(
            "Host *\nIdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\n\
             StrictHostKeyChecking no\nLogLevel ERROR\nBatchMode yes\n",
            path("user"),
            path("known_hosts")
        );
        std::fs::write(path("ssh_config"), client).expect("write the client's configuration");
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).expect("a directory");
        let wrapper = bin.join("ssh");
        let script = format!("#!/bin/sh\nexec /usr/bin/ssh -F '{}' \"$@\"\n", path("ssh_config"));
        std::fs::write(&wrapper, script).expect("write a script");
        std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let log = std::fs::File::create(path("log")).expect("a log file");
        let mut server = std::process::Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &path("sshd_config")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Debian's openssh-server (cargo xtask deps)");
        until("the ssh server listens", || {
            let ended = server.try_wait().expect("wait for a child");
            assert!(ended.is_none(), "sshd: {}", std::fs::read_to_string(path("log")).unwrap_or_default());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Sshd { port, server, dir }
    }

    /// `ssh://` address of the engine that listens on this socket.
    pub fn address(&self, socket: &Path) -> String {
        format!("ssh://root@127.0.0.1:{}{}", self.port, socket.display())
    }

    /// A PATH in which `ssh` is one that trusts this server.
    pub fn path(&self) -> String {
        let own: PathBuf = self.dir.path().join("bin");
        format!("{}:{}", own.display(), std::env::var("PATH").unwrap_or_default())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

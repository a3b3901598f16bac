//! `make install`: the two programs, systemd units, completions.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to: programs go to PREFIX/bin
    #[arg(long, default_value = "/usr/local")]
    prefix: PathBuf,
    /// A root to put before all paths, for making packages
    #[arg(long, env = "DESTDIR", default_value = "/")]
    destdir: PathBuf,
}

const SERVICE: &str = "[Unit]
Description=skep container engine
After=network-online.target nss-lookup.target skep.socket
Wants=network-online.target
Requires=skep.socket

[Service]
Type=notify
ExecStart=@BIN@/skep daemon -H fd://
ExecReload=/bin/kill -s HUP $MAINPID
Restart=always
RestartSec=2
# Containers outlive the daemon: only its own process is ended with it.
KillMode=process
Delegate=yes
OOMScoreAdjust=-500
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy=multi-user.target
";

const SOCKET: &str = "[Unit]
Description=skep container engine's API

[Socket]
ListenStream=/run/skep/skep.sock
SocketMode=0660
SocketUser=root
SocketGroup=root

[Install]
WantedBy=sockets.target
";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    crate::bench::build()?;
    let place = |path: &Path| arguments.destdir.join(path.strip_prefix("/").unwrap_or(path));
    let bin = arguments.prefix.join("bin");
    for name in ["skep", "skep-runtime"] {
        let program = fs::read(crate::paths::release(name))?;
        write(&place(&bin.join(name)), &program, 0o755)?;
    }
    let units = Path::new("/etc/systemd/system");
    let service = SERVICE.replace("@BIN@", &bin.display().to_string());
    write(&place(&units.join("skep.service")), service.as_bytes(), 0o644)?;
    write(&place(&units.join("skep.socket")), SOCKET.as_bytes(), 0o644)?;
    let share = arguments.prefix.join("share");
    for (shell, file) in [
        ("bash", "bash-completion/completions/skep"),
        ("zsh", "zsh/site-functions/_skep"),
        ("fish", "fish/vendor_completions.d/skep.fish"),
    ] {
        let output = Command::new(crate::paths::release("skep")).args(["completion", shell]).output()?;
        ensure!(output.status.success(), "skep completion {shell} failed");
        write(&place(&share.join(file)), &output.stdout, 0o644)?;
    }
    println!("\nStart it with: systemctl enable --now skep.socket skep.service");
    Ok(ExitCode::SUCCESS)
}

/// Writes beside the target and renames, so that a program that runs can be replaced.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let folder = path.parent().context("a path with a folder")?;
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    file.persist(path).with_context(|| path.display().to_string())?;
    println!("{}", path.display());
    Ok(())
}

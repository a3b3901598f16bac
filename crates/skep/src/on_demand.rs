//! Starting an engine for a command that finds none: detached, with its log below the exec root, gone again once it is idle.

use std::fs::OpenOptions;
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cli::Failure;
use crate::daemon::settings::EXEC_ROOT;
use crate::ui;

/// How long the engine stays without work.
const IDLE: &str = "60s";

/// How long a new engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts an engine that listens at `host`, and waits until it does. `refused` is why none was found.
pub(crate) async fn start(program: &str, host: &str, refused: skep_client::Error) -> Result<(), Failure> {
    let Some(socket) = host.strip_prefix("unix://") else { return Err(refused.into()) };
    let log = format!("{EXEC_ROOT}/daemon.log");
    ui::error_line(&format!("{program}: no engine is running, starting one (it ends when idle; log: {log})"));
    let failed = |error: io::Error| Failure::message(format!("{refused}\nstarting an engine failed: {error}"));
    std::fs::create_dir_all(EXEC_ROOT).map_err(failed)?;
    let file = OpenOptions::new().create(true).append(true).open(&log).map_err(failed)?;
    let own = std::env::current_exe().map_err(failed)?;
    // A session of its own, so that Ctrl-C at this terminal is not meant for the engine; the shell in between is gone at once and
    // leaves the engine to process 1.
    let mut child = Command::new("setsid")
        .arg("--fork")
        .arg(own)
        .args(["daemon", "--idle-timeout", IDLE, "-H", host])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(file.try_clone().map_err(failed)?)
        .stderr(file)
        .spawn()
        .map_err(failed)?;
    child.wait().map_err(failed)?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if std::os::unix::net::UnixStream::connect(socket).is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(Failure::message(format!("{refused}\nthe engine that was started does not answer; see {log}")))
}

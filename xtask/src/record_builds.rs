//! The corpus of builds against Docker: what skep's builder is compared with.

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

use crate::peers::Peers;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only projects whose names contain this
    #[arg(default_value = "")]
    only: String,
    /// Compares Docker with its record instead, which proves the record
    #[arg(long, conflicts_with = "live")]
    check: bool,
    /// Leaves the record alone: records into a temporary file, and compares skep with that
    #[arg(long)]
    live: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("skep-record-").tempdir()?;
    let live = folder.path().join("docker.jsonl");
    let mut docker = test(arguments, Engine::Docker)?;
    if arguments.live {
        docker.env("SKEP_BUILD_RECORD", &live);
    }
    if !arguments.check {
        docker.env("SKEP_BUILD_WRITE", "1");
    }
    ensure!(
        docker.status()?.success(),
        "Docker's builder could not be {}",
        if arguments.check { "compared" } else { "recorded" }
    );
    if !arguments.live {
        return Ok(ExitCode::SUCCESS);
    }
    let status = test(arguments, Engine::Skep)?.env("SKEP_BUILD_RECORD", &live).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Engine {
    Docker,
    Skep,
}

/// The comparing test. Docker gets a network of its own: dockerd leaves rules behind that stand in the way of other engines.
fn test(arguments: &Arguments, engine: Engine) -> Result<Command> {
    let peers = Peers::fetch(&crate::paths::target())?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]).arg(cargo);
    command.args(["test", "--package", "skep-tests", "--test", "builds"]);
    if engine == Engine::Docker {
        let folder = peers.program("dockerd")?.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
        command.env("SKEP_TEST_ENGINE", "docker").env("PATH", format!("{}:{folder}", peers.path()));
        // Two dockerd that start at the same time get in each other's way over iptables.
        command.args(["--", "--test-threads", "1"]);
    }
    command.env("SKEP_BUILD_ONLY", &arguments.only).current_dir(crate::paths::top());
    Ok(command)
}

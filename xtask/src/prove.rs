//! The end-to-end scenarios against Docker: what they expect is right if Docker does it.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::peers::Peers;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only scenarios whose names contain this
    filter: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let peers = Peers::fetch(&crate::paths::target())?;
    // The kit calls dockerd and docker by name.
    let programs = [peers.program("dockerd")?, peers.program("docker")?];
    let folders = programs.iter().filter_map(|program| program.parent()).map(|folder| folder.display().to_string());
    let path = format!("{}:{}", peers.path(), folders.collect::<Vec<_>>().join(":"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // In a network of its own: dockerd leaves rules behind that stand in the way of other engines.
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]).arg(cargo);
    command.args(["test", "--package", "skep-tests", "--test", "e2e", "--"]).args(&arguments.filter);
    // Two dockerds that start at the same time get in each other's way over iptables.
    command.args(["--test-threads", "1"]).env("SKEP_TEST_ENGINE", "docker").env("PATH", path);
    let buildx = peers.program("docker-buildx")?;
    command.envs(buildx.parent().map(|folder| ("SKEP_TEST_PLUGINS", folder)));
    let status = command.current_dir(crate::paths::top()).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

//! `pause`.

use super::each::each;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, NoFlags};
use crate::cli::{Args, Cli, Command, Completion, Outcome, reference};

pub(crate) const COMMAND: Command = Command {
    paths: &["pause", "container pause"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Pause all processes within one or more containers",
    args: Args::AtLeast(1),
    completion: Completion::RunningContainers,
    flags: NoFlags::specs,
    run: runner!(NoFlags, run),
};

async fn run(cli: &Cli, _: NoFlags, names: Vec<String>) -> Outcome {
    let client = cli.client().await?;
    each(&names, async |name| Ok(client.post_empty(reference::container(&name, "/pause")?).await?)).await
}

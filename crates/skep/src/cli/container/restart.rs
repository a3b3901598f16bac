//! `restart`.

use super::stop::{StopFlags, ask};
use crate::cli::command::runner;
use crate::cli::flags::FlagSet;
use crate::cli::{Args, Cli, Command, Completion, Outcome};

pub(crate) const COMMAND: Command = Command {
    paths: &["restart", "container restart"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Restart one or more containers",
    args: Args::AtLeast(1),
    completion: Completion::Containers,
    flags: StopFlags::specs,
    run: runner!(StopFlags, run),
};

async fn run(cli: &Cli, flags: StopFlags, names: Vec<String>) -> Outcome {
    ask(cli, "/restart", flags, names).await
}

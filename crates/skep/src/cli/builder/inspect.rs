//! `buildx inspect`: what the engine's builder is.

use std::fmt::Write as _;

use super::worker::{NAME, Worker};
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

flags! {
    pub(crate) struct InspectFlags {
        bootstrap: bool => "bootstrap", "Accepted and not needed: the engine runs";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["buildx inspect"],
    usage: "[OPTIONS] [NAME]",
    about: "Inspect current builder instance",
    args: Args::AtMost(1),
    completion: Completion::Nothing,
    flags: InspectFlags::specs,
    run: runner!(InspectFlags, run),
};

async fn run(cli: &Cli, _: InspectFlags, words: Vec<String>) -> Outcome {
    if let Some(name) = words.first().filter(|name| *name != NAME) {
        return Err(Failure::message(format!("ERROR: no builder {name:?} found")));
    }
    let worker = Worker::ask(cli).await?;
    let mut text = format!(
        "Name:   {NAME}\nDriver: docker\n\nNodes:\nName:             {NAME}\nEndpoint:         {NAME}\nStatus:           running\n\
         BuildKit version: {}\nPlatforms:        {}\nLabels:\n",
        worker.version(),
        worker.platforms().join(", ")
    );
    for (name, value) in worker.labels() {
        let _ = writeln!(text, " {name}: {value}");
    }
    ui::print(&text);
    Ok(())
}

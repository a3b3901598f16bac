//! `container prune`.

use skep_client::Method;
use skep_wire::ContainersPruned;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::Filter;
use crate::cli::{Args, Cli, Command, Completion, Outcome};
use crate::ui::{self, human};

flags! {
    pub(crate) struct PruneFlags {
        filter: Filter => "filter", "Remove only what the filter lets through (e.g. \"until=<timestamp>\")";
        force: bool => "force" 'f', "Do not ask";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["container prune"],
    usage: "[OPTIONS]",
    about: "Remove all stopped containers",
    args: Args::None,
    completion: Completion::Nothing,
    flags: PruneFlags::specs,
    run: runner!(PruneFlags, run),
};

const QUESTION: &str = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?";

async fn run(cli: &Cli, flags: PruneFlags, _: Vec<String>) -> Outcome {
    if !flags.force && !ui::confirm(QUESTION) {
        return Ok(());
    }
    let pruned: ContainersPruned = cli
        .client()
        .await?
        .request(Method::POST, "/containers/prune")
        .query_opt("filters", flags.filter.to_query())
        .send()
        .await?
        .json()
        .await?;
    let mut text = String::new();
    if !pruned.containers_deleted.is_empty() {
        text.push_str(&format!("Deleted Containers:\n{}\n\n", pruned.containers_deleted.join("\n")));
    }
    let reclaimed = human::fine_size(i64::try_from(pruned.space_reclaimed).unwrap_or(i64::MAX));
    text.push_str(&format!("Total reclaimed space: {reclaimed}\n"));
    ui::print(&text);
    Ok(())
}

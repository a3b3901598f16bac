//! `network prune`.

use skep_client::Method;
use skep_wire::NetworksPruned;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::system::preview;
use crate::cli::value::Filter;
use crate::cli::{Args, Cli, Command, Completion, Outcome};
use crate::ui;

flags! {
    pub(crate) struct PruneFlags {
        dry_run: bool => "dry-run", "Show what would be removed, and remove nothing";
        filter: Filter => "filter", "Remove only what the filter lets through (\"until=<timestamp>\", \"label=<label>\")";
        force: bool => "force" 'f', "Do not ask";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["network prune"],
    usage: "[OPTIONS]",
    about: "Remove all unused networks",
    args: Args::None,
    completion: Completion::Nothing,
    flags: PruneFlags::specs,
    run: runner!(PruneFlags, run),
};

const QUESTION: &str = "WARNING! This will remove all custom networks not used by at least one container.\n\
                        Are you sure you want to continue?";

async fn run(cli: &Cli, flags: PruneFlags, _: Vec<String>) -> Outcome {
    if flags.dry_run {
        let found = preview::preview(cli, &["network"], false, &flags.filter).await?;
        ui::print(&report("Would delete", &found.networks_deleted));
        return Ok(());
    }
    if !flags.force && !ui::confirm(QUESTION) {
        return Ok(());
    }
    let request = cli.client().await?.request(Method::POST, "/networks/prune");
    let pruned: NetworksPruned = request.query_opt("filters", flags.filter.to_query()).send().await?.json().await?;
    ui::print(&report("Deleted", &pruned.networks_deleted));
    Ok(())
}

/// Networks take no room that could be added up.
fn report(what: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("{what} Networks:\n{}\n\n", names.join("\n")) }
}

//! `network prune`.

use skep_client::Method;
use skep_wire::NetworksPruned;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::Filter;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

flags! {
    pub(crate) struct PruneFlags {
        filter: Filter => "filter", "Provide filter values (e.g. \"until=<timestamp>\")";
        force: bool => "force" 'f', "Do not prompt for confirmation";
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

const QUESTION: &str = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?";

async fn run(cli: &Cli, flags: PruneFlags, _: Vec<String>) -> Outcome {
    if !flags.force && !ui::confirm(QUESTION) {
        return Err(Failure::message("network prune has been cancelled"));
    }
    let request = cli.client().await?.request(Method::POST, "/networks/prune");
    let pruned: NetworksPruned = request.query_opt("filters", flags.filter.to_query()).send().await?.json().await?;
    if !pruned.networks_deleted.is_empty() {
        ui::print(&format!("Deleted Networks:\n{}\n\n", pruned.networks_deleted.join("\n")));
    }
    Ok(())
}

//! `volume prune`.

use skep_client::{Client, Method};
use skep_wire::VolumesPruned;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::Filter;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui;

flags! {
    pub(crate) struct PruneFlags {
        all: bool => "all" 'a', "Remove all unused volumes, not just anonymous ones";
        filter: Filter => "filter", "Provide filter values (e.g. \"label=<label>\")";
        force: bool => "force" 'f', "Do not prompt for confirmation";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["volume prune"],
    usage: "[OPTIONS]",
    about: "Remove unused local volumes",
    args: Args::None,
    completion: Completion::Nothing,
    flags: PruneFlags::specs,
    run: runner!(PruneFlags, run),
};

async fn run(cli: &Cli, flags: PruneFlags, _: Vec<String>) -> Outcome {
    let mut filter = flags.filter;
    if flags.all {
        if filter.0.iter().any(|(key, _)| key == "all") {
            return Err(Failure::message("conflicting options: cannot specify both --all and --filter all=1"));
        }
        filter.0.push(("all".to_owned(), "true".to_owned()));
    }
    let which = if flags.all { "all" } else { "anonymous" };
    let question = format!(
        "WARNING! This will remove {which} local volumes not used by at least one container.\n\
         Are you sure you want to continue?"
    );
    if !flags.force && !ui::confirm(&question) {
        return Ok(());
    }
    let pruned = prune(cli.client().await?, &filter).await?;
    ui::print(&report(&pruned));
    ui::line(&format!("Total reclaimed space: {}", skep_types::format_decimal_fine(pruned.space_reclaimed)));
    Ok(())
}

/// Removes unused volumes.
pub(crate) async fn prune(client: &Client, filter: &Filter) -> Result<VolumesPruned, Failure> {
    let request = client.request(Method::POST, "/volumes/prune").query_opt("filters", filter.to_query());
    Ok(request.send().await?.json().await?)
}

/// What was removed; empty if nothing was.
pub(crate) fn report(pruned: &VolumesPruned) -> String {
    if pruned.volumes_deleted.is_empty() {
        return String::new();
    }
    format!("Deleted Volumes:\n{}\n\n", pruned.volumes_deleted.join("\n"))
}

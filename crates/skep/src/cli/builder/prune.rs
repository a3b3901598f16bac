//! `builder prune`.

use std::fmt::Write as _;

use skep_client::Method;
use skep_wire::BuilderPruned;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::{Filter, Size};
use crate::cli::{Args, Cli, Command, Completion, Outcome};
use crate::ui;

flags! {
    pub(crate) struct PruneFlags {
        all: bool => "all" 'a', "Remove all unused build cache, not just dangling ones";
        filter: Filter => "filter", "Provide filter values (e.g. \"until=24h\")";
        force: bool => "force" 'f', "Do not prompt for confirmation";
        keep_storage: Size => "keep-storage", "Amount of disk space to keep for cache; now --reserved-space";
        max_used_space: Size => "max-used-space", "Maximum amount of disk space allowed to keep for cache";
        min_free_space: Size => "min-free-space", "Target amount of free disk space after pruning";
        reserved_space: Size => "reserved-space", "Amount of disk space always allowed to keep for cache";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["builder prune", "buildx prune"],
    usage: "[OPTIONS]",
    about: "Remove build cache",
    args: Args::None,
    completion: Completion::Nothing,
    flags: PruneFlags::specs,
    run: runner!(PruneFlags, run),
};

async fn run(cli: &Cli, flags: PruneFlags, _: Vec<String>) -> Outcome {
    let warning = match flags.all {
        true => "WARNING! This will remove all build cache.",
        false => "WARNING! This will remove all dangling build cache.",
    };
    if !flags.force && !ui::confirm(&format!("{warning} Are you sure you want to continue?")) {
        return Ok(());
    }
    let mut request =
        cli.client().await?.request(Method::POST, "/build/prune").query_opt("filters", flags.filter.to_query());
    let reserved = if flags.reserved_space.0 > 0 { flags.reserved_space } else { flags.keep_storage };
    let sizes = [
        ("reserved-space", reserved),
        ("max-used-space", flags.max_used_space),
        ("min-free-space", flags.min_free_space),
    ];
    for (name, size) in sizes.into_iter().filter(|(_, size)| size.0 > 0) {
        request = request.query(name, size.0.to_string());
    }
    if flags.all {
        request = request.query("all", "1");
    }
    let pruned: BuilderPruned = request.send().await?.json().await?;
    ui::print(&report(&pruned));
    Ok(())
}

fn report(pruned: &BuilderPruned) -> String {
    let mut text = String::new();
    if !pruned.caches_deleted.is_empty() {
        let _ = write!(text, "Deleted build cache objects:\n{}\n\n", pruned.caches_deleted.join("\n"));
    }
    let _ = writeln!(text, "Total reclaimed space: {}", skep_types::format_decimal_fine(pruned.space_reclaimed));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_is_listed() {
        let pruned = BuilderPruned { caches_deleted: vec!["a".into(), "b".into()], space_reclaimed: 12345 };
        assert_eq!(report(&pruned), "Deleted build cache objects:\na\nb\n\nTotal reclaimed space: 12.35kB\n");
        assert_eq!(report(&BuilderPruned::default()), "Total reclaimed space: 0B\n");
    }
}

//! `system prune`.

use std::fmt::Write as _;

use serde::de::DeserializeOwned;
use skep_client::{Client, Method};
use skep_types::ErrorKind;
use skep_wire::{BuilderPruned, ContainersPruned, ImagesPruned, NetworksPruned};

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::system::preview;
use crate::cli::value::Filter;
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome, volume};
use crate::ui;

flags! {
    pub(crate) struct PruneFlags {
        all: bool => "all" 'a', "Remove all unused images not just dangling ones";
        dry_run: bool => "dry-run", "Show what would be removed, and remove nothing";
        filter: Filter => "filter", "Provide filter values (e.g. \"label=<key>=<value>\")";
        force: bool => "force" 'f', "Do not prompt for confirmation";
        volumes: bool => "volumes", "Prune anonymous volumes";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["system prune"],
    usage: "[OPTIONS]",
    about: "Remove unused data",
    args: Args::None,
    completion: Completion::Nothing,
    flags: PruneFlags::specs,
    run: runner!(PruneFlags, run),
};

async fn run(cli: &Cli, flags: PruneFlags, _: Vec<String>) -> Outcome {
    if flags.volumes && flags.filter.0.iter().any(|(key, _)| key == "until") {
        return Err(Failure::message("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    if flags.dry_run {
        let kinds: &[&str] = if flags.volumes {
            &["container", "network", "volume", "image"]
        } else {
            &["container", "network", "image"]
        };
        let found = preview::preview(cli, kinds, flags.all, &flags.filter).await?;
        let caches = preview::caches(cli, flags.all, &flags.filter).await?;
        ui::print(&preview::report_with(&found, &caches));
        return Ok(());
    }
    if !flags.force && !ui::confirm(&question(&flags)) {
        return Ok(());
    }
    let client = cli.client().await?;
    let mut reclaimed = 0;

    let pruned: ContainersPruned = prune(client, "/containers/prune", &flags.filter).await?;
    reclaimed += pruned.space_reclaimed;
    deleted("Containers", &pruned.containers_deleted);

    let pruned: Option<NetworksPruned> = if_known(prune(client, "/networks/prune", &flags.filter).await)?;
    deleted("Networks", &pruned.unwrap_or_default().networks_deleted);

    if flags.volumes {
        let pruned = volume::prune::prune(client, &flags.filter).await?;
        reclaimed += pruned.space_reclaimed;
        ui::print(&volume::prune::report(&pruned));
    }

    let mut filter = flags.filter.clone();
    filter.0.push(("dangling".to_owned(), (!flags.all).to_string()));
    let pruned: ImagesPruned = prune(client, "/images/prune", &filter).await?;
    reclaimed += pruned.space_reclaimed;
    deleted("Images", &preview::image_lines(&pruned.images_deleted));

    let path = if flags.all { "/build/prune?all=1" } else { "/build/prune" };
    if let Some(pruned) = if_known::<BuilderPruned>(prune(client, path, &flags.filter).await)? {
        reclaimed += pruned.space_reclaimed;
        deleted("build cache objects", &pruned.caches_deleted);
    }

    ui::line(&format!("Total reclaimed space: {}", skep_types::format_decimal_fine(reclaimed)));
    Ok(())
}

fn question(flags: &PruneFlags) -> String {
    let mut out = String::from(
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n",
    );
    if flags.volumes {
        out.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    out.push_str(match flags.all {
        true => "  - all images without at least one container associated to them\n  - all build cache\n",
        false => "  - all dangling images\n  - unused build cache\n",
    });
    if !flags.filter.0.is_empty() {
        out.push_str("\n  Items to be pruned will be filtered with:\n");
        for (key, value) in &flags.filter.0 {
            let _ = writeln!(out, "  - {key}={value}");
        }
    }
    out.push_str("\nAre you sure you want to continue?");
    out
}

async fn prune<T: DeserializeOwned>(client: &Client, path: &str, filter: &Filter) -> skep_client::Result<T> {
    client.request(Method::POST, path).query_opt("filters", filter.to_query()).send().await?.json().await
}

/// None where the engine keeps no such things and says so.
fn if_known<T>(answer: skep_client::Result<T>) -> skep_client::Result<Option<T>> {
    match answer {
        Ok(pruned) => Ok(Some(pruned)),
        Err(error) if matches!(error.kind(), ErrorKind::NotImplemented | ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn deleted(kind: &str, names: &[String]) {
    if !names.is_empty() {
        ui::print(&format!("Deleted {kind}:\n{}\n\n", names.join("\n")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_lists_what_will_go() {
        let mut flags = PruneFlags { volumes: true, all: true, ..PruneFlags::default() };
        flags.filter.0.push(("label".to_owned(), "x".to_owned()));
        insta::assert_snapshot!(question(&flags), @r"
        WARNING! This will remove:
          - all stopped containers
          - all networks not used by at least one container
          - all anonymous volumes not used by at least one container
          - all images without at least one container associated to them
          - all build cache

          Items to be pruned will be filtered with:
          - label=x

        Are you sure you want to continue?
        ");
    }
}

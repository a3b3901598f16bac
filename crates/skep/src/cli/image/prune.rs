//! `image prune`.

use std::fmt::Write as _;

use skep_client::Method;
use skep_wire::ImagesPruned;

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::system::preview;
use crate::cli::value::Filter;
use crate::cli::{Args, Cli, Command, Completion, Outcome};
use crate::ui::{self, human};

flags! {
    pub(crate) struct PruneFlags {
        all: bool => "all" 'a', "Remove all unused images, not just dangling ones";
        dry_run: bool => "dry-run", "Show what would be removed, and remove nothing";
        filter: Filter => "filter", "Provide filter values (e.g. \"until=<timestamp>\")";
        force: bool => "force" 'f', "Do not prompt for confirmation";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["image prune"],
    usage: "[OPTIONS]",
    about: "Remove unused images",
    args: Args::None,
    completion: Completion::Nothing,
    flags: PruneFlags::specs,
    run: runner!(PruneFlags, run),
};

async fn run(cli: &Cli, flags: PruneFlags, _: Vec<String>) -> Outcome {
    if flags.dry_run {
        let found = preview::preview(cli, &["image"], flags.all, &flags.filter).await?;
        ui::print(&preview::report(&found));
        return Ok(());
    }
    let warning = match flags.all {
        true => "WARNING! This will remove all images without at least one container associated to them.",
        false => "WARNING! This will remove all dangling images.",
    };
    if !flags.force && !ui::confirm(&format!("{warning}\nAre you sure you want to continue?")) {
        return Ok(());
    }
    let mut filter = flags.filter;
    // Dangling ones only, or not: `-a` decides, whatever a filter says.
    filter.0.retain(|(key, _)| key != "dangling");
    filter.0.push(("dangling".to_owned(), (!flags.all).to_string()));
    let pruned: ImagesPruned = cli
        .client()
        .await?
        .request(Method::POST, "/images/prune")
        .query_opt("filters", filter.to_query())
        .send()
        .await?
        .json()
        .await?;
    ui::print(&report(&pruned));
    Ok(())
}

fn report(pruned: &ImagesPruned) -> String {
    let mut text = String::new();
    if !pruned.images_deleted.is_empty() {
        text.push_str("Deleted Images:\n");
        for line in preview::image_lines(&pruned.images_deleted) {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{line}");
        }
        text.push('\n');
    }
    let reclaimed = i64::try_from(pruned.space_reclaimed).unwrap_or(i64::MAX);
    let _ = writeln!(text, "Total reclaimed space: {}", human::fine_size(reclaimed));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_is_listed() {
        let pruned: ImagesPruned = skep_wire::from_str(
            r#"{"ImagesDeleted":[{"Untagged":"a:1"},{"Deleted":"sha256:1"}],"SpaceReclaimed":12345}"#,
        )
        .expect("json");
        insta::assert_snapshot!(report(&pruned), @r"
        Deleted Images:
        untagged: a:1
        deleted: sha256:1

        Total reclaimed space: 12.35kB
        ");
        assert_eq!(report(&ImagesPruned::default()), "Total reclaimed space: 0B\n");
    }
}

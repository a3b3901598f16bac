//! `system gc`: collects garbage now, or explains what would go.

use serde_json::{Value, json};
use skep_client::Method;
use skep_wire::{GcItem, GcReport};

use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Outcome};
use crate::ui;
use crate::ui::human;
use crate::ui::listing::{self, Columns};

flags! {
    pub(crate) struct GcFlags {
        dry_run: bool => "dry-run", "Explain what would go and what stays, and remove nothing";
        format: String => "format", "Format output: 'table', 'table TEMPLATE', 'json' or a Go template";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["system gc"],
    usage: "[OPTIONS]",
    about: "Make room on the disk of the data root, as the engine does by itself when it runs full",
    args: Args::None,
    completion: Completion::Nothing,
    flags: GcFlags::specs,
    run: runner!(GcFlags, run),
};

const COLUMNS: Columns = Columns {
    type_name: "*formatter.gcContext",
    titles: &[
        ("Action", "ACTION"),
        ("Kind", "KIND"),
        ("ID", "ID"),
        ("Name", "NAME"),
        ("Size", "SIZE"),
        ("Reason", "REASON"),
    ],
    default_table: "{{.Action}}\t{{.Kind}}\t{{.ID}}\t{{.Name}}\t{{.Size}}\t{{.Reason}}",
};

async fn run(cli: &Cli, flags: GcFlags, _: Vec<String>) -> Outcome {
    let method = if flags.dry_run { Method::GET } else { Method::POST };
    let report: GcReport = cli.client().await?.request(method, "/skep/gc").send().await?.json().await?;
    let rows = rows(&report, if flags.dry_run { "remove" } else { "removed" });
    let table = listing::render(&COLUMNS, &flags.format, &rows)?;
    match flags.format.as_str() {
        "" | "table" => ui::print(&format!("{}\n{table}", headline(&report, flags.dry_run))),
        _ => ui::print(&table),
    }
    Ok(())
}

fn headline(report: &GcReport, dry_run: bool) -> String {
    let size = |bytes: u64| human::size(i64::try_from(bytes).unwrap_or(i64::MAX));
    let when = match (report.enabled, report.free < report.low) {
        (true, true) => "less than the mark to begin at",
        (true, false) => "enough: nothing goes by itself",
        (false, _) => "nothing goes by itself, as it is switched off",
    };
    let mut text = format!(
        "Free: {} of {} ({when}). It begins below {} and ends at {}.\n",
        size(report.free),
        size(report.disk_size),
        size(report.low),
        size(report.high)
    );
    if !dry_run {
        let freed = report.free.saturating_sub(report.free_before);
        text.push_str(&format!("Freed: {}, and {} of the database.\n", size(freed), size(report.compacted)));
    }
    text
}

fn rows(report: &GcReport, action: &str) -> Vec<Value> {
    let row = |item: &GcItem, action: &str| {
        json!({
            "Action": action,
            "ID": human::short_id(&item.id),
            "Kind": item.kind,
            "Name": item.tags.join(","),
            "Reason": item.reason,
            "Size": human::size(i64::try_from(item.size).unwrap_or(i64::MAX)),
        })
    };
    let gone = report.steps.iter().map(|item| row(item, action));
    gone.chain(report.kept.iter().map(|item| row(item, "keep"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_comes_first_and_each_says_why() {
        let item = |kind: &str, id: &str, size, reason: &str| GcItem {
            kind: kind.into(),
            id: id.into(),
            size,
            reason: reason.into(),
            ..GcItem::default()
        };
        let report = GcReport {
            enabled: true,
            disk_size: 1000,
            free: 40,
            low: 50,
            high: 100,
            steps: vec![
                item("trash", "", 5, "already removed"),
                item("image", "sha256:aaaaaaaaaaaaaaaa", 30, "no tag, last used 3d ago"),
            ],
            kept: vec![GcItem {
                tags: vec!["x:1".into()],
                ..item("image", "sha256:bbbbbbbbbbbbbbbb", 7, "1 container uses it")
            }],
            ..GcReport::default()
        };
        insta::assert_snapshot!(headline(&report, true), @"Free: 40B of 1kB (less than the mark to begin at). It begins below 50B and ends at 100B.");
        insta::assert_snapshot!(listing::render(&COLUMNS, "", &rows(&report, "remove")).expect("good"), @r"
        ACTION    KIND      ID             NAME      SIZE      REASON
        remove    trash                              5B        already removed
        remove    image     aaaaaaaaaaaa             30B       no tag, last used 3d ago
        keep      image     bbbbbbbbbbbb   x:1       7B        1 container uses it
        ");
    }
}

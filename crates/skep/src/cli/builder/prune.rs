//! `builder prune`.

use std::fmt::Write as _;

use skep_buildkit::proto::moby::buildkit::v1::{PruneRequest, UsageRecord};
use skep_client::Method;
use skep_wire::BuildCache;

use super::{record, worker};
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::{Filter, Size};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui::{self, human};

flags! {
    pub(crate) struct PruneFlags {
        all: bool => "all" 'a', "Remove all unused build cache, not just dangling ones";
        dry_run: bool => "dry-run", "Show what would be removed, and remove nothing";
        filter: Filter => "filter", "Provide filter values (e.g. \"until=24h\")";
        force: bool => "force" 'f', "Do not prompt for confirmation";
        keep_storage: Size => "keep-storage", "Amount of disk space to keep for cache; now --reserved-space";
        max_used_space: Size => "max-used-space", "Maximum amount of disk space allowed to keep for cache";
        min_free_space: Size => "min-free-space", "Target amount of free disk space after pruning";
        reserved_space: Size => "reserved-space", "Amount of disk space always allowed to keep for cache";
        verbose: bool => "verbose", "Provide a more verbose output";
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
    if flags.keep_storage.0 > 0 {
        ui::error_line("Flag --keep-storage has been deprecated, keep-storage flag has been changed to reserved-space");
    }
    let (filter, unused_for) = record::conditions(&flags.filter)?;
    if flags.dry_run {
        let found = preview(cli, &flags).await?;
        let total: i64 = found.iter().map(|record| record.size).sum();
        ui::print(&shown(&found, flags.verbose));
        ui::line(&format!("Total reclaimable space: {}", human::fine_size(total)));
        return Ok(());
    }
    let warning = match flags.all {
        true => "WARNING! This will remove all build cache.",
        false => "WARNING! This will remove all dangling build cache.",
    };
    if !flags.force && !ui::confirm(&format!("{warning} Are you sure you want to continue?")) {
        return Ok(());
    }
    let request = PruneRequest {
        filter,
        all: flags.all,
        keep_duration: i64::try_from(unused_for.as_nanos()).unwrap_or(i64::MAX),
        reserved_space: reserved(&flags).0,
        max_used_space: flags.max_used_space.0,
        min_free_space: flags.min_free_space.0,
    };
    let mut control = worker::control(cli).await?;
    let mut answer = control.prune(request).await.map_err(|status| worker::failed(&status))?.into_inner();
    let mut gone = Vec::new();
    while let Some(record) = answer.message().await.map_err(|status| worker::failed(&status))? {
        gone.push(record);
    }
    let total: i64 = gone.iter().map(|record| record.size).sum();
    ui::print(&shown(&gone, flags.verbose));
    ui::line(&format!("Total:\t{}", human::fine_size(total)));
    Ok(())
}

fn reserved(flags: &PruneFlags) -> Size {
    if flags.reserved_space.0 > 0 { flags.reserved_space } else { flags.keep_storage }
}

/// What would go. Asked for where no other engine answers: one that doesn't know the wish would remove it.
async fn preview(cli: &Cli, flags: &PruneFlags) -> Result<Vec<UsageRecord>, Failure> {
    let mut request =
        cli.client().await?.request(Method::GET, "/skep/build/prune").query_opt("filters", flags.filter.to_query());
    let sizes = [
        ("reserved-space", reserved(flags)),
        ("max-used-space", flags.max_used_space),
        ("min-free-space", flags.min_free_space),
    ];
    for (name, size) in sizes.into_iter().filter(|(_, size)| size.0 > 0) {
        request = request.query(name, size.0.to_string());
    }
    if flags.all {
        request = request.query("all", "1");
    }
    let found: Vec<BuildCache> = request.send().await?.json().await?;
    Ok(found.into_iter().map(from_wire).collect())
}

fn from_wire(cache: BuildCache) -> UsageRecord {
    let stamp = |time: skep_wire::Timestamp| {
        time.time().map(|time| skep_buildkit::proto::google::protobuf::Timestamp {
            seconds: time.timestamp(),
            nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0),
        })
    };
    UsageRecord {
        mutable: ["exec.cachemount", "source.local"].contains(&cache.kind.as_str()),
        id: cache.id,
        in_use: cache.in_use,
        size: cache.size,
        created_at: stamp(cache.created_at),
        last_used_at: cache.last_used_at.and_then(stamp),
        usage_count: cache.usage_count,
        description: cache.description,
        record_type: cache.kind,
        shared: cache.shared,
        parents: cache.parents,
        ..UsageRecord::default()
    }
}

fn shown(records: &[UsageRecord], verbose: bool) -> String {
    if verbose {
        return records.iter().map(record::details).collect();
    }
    let mut text = String::new();
    for (number, one) in records.iter().enumerate() {
        if number == 0 {
            text.push_str("ID\t\t\t\t\t\tRECLAIMABLE\tSIZE\t\tLAST ACCESSED\n");
        }
        let [id, reclaimable, _, used] = record::cells(one);
        let size = human::fine_size(one.size);
        let _ = writeln!(text, "{id:<40}\t{reclaimable:<5}\t\t{size:<10}\t{used}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_is_listed() {
        let record = UsageRecord { id: "a".into(), size: 12345, mutable: true, ..UsageRecord::default() };
        let text = shown(std::slice::from_ref(&record), false);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..3], ["ID", "RECLAIMABLE", "SIZE"]);
        assert_eq!(lines[1], ["a*", "true", "12.35kB"]);
        assert!(shown(&[record], true).starts_with("ID:           a\n"));
        assert_eq!(shown(&[], false), "");
    }
}

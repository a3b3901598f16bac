//! `buildx du`: what builds keep, and what of it may go.

use std::fmt::Write as _;

use chrono::Utc;
use serde_json::Value;
use skep_buildkit::proto::moby::buildkit::v1::{DiskUsageRequest, UsageRecord};

use super::{record, worker};
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::value::Filter;
use crate::cli::{Args, Cli, Command, Completion, Outcome};
use crate::ui::listing::{self, Columns};
use crate::ui::{self, human, table};

flags! {
    pub(crate) struct UsageFlags {
        filter: Filter => "filter", "Provide filter values (e.g. \"type=exec.cachemount\")";
        format: String => "format", "Format the output: 'table', 'pretty', 'json' or a Go template";
        verbose: bool => "verbose", "Shorthand for \"--format=pretty\"";
    }
}

pub(crate) const COMMAND: Command = Command {
    paths: &["builder du", "buildx du"],
    usage: "[OPTIONS]",
    about: "Disk usage of the build cache",
    args: Args::None,
    completion: Completion::Nothing,
    flags: UsageFlags::specs,
    run: runner!(UsageFlags, run),
};

const COLUMNS: Columns = Columns {
    type_name: "*commands.diskusageContext",
    titles: &[
        ("CreatedAt", "CREATED AT"),
        ("Description", "DESCRIPTION"),
        ("ID", "ID"),
        ("LastUsedAt", "LAST ACCESSED"),
        ("Mutable", "MUTABLE"),
        ("Parents", "PARENTS"),
        ("Reclaimable", "RECLAIMABLE"),
        ("Shared", "SHARED"),
        ("Size", "SIZE"),
        ("Type", "TYPE"),
        ("UsageCount", "USAGE COUNT"),
    ],
    default_table: "{{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastUsedAt}}",
};

async fn run(cli: &Cli, flags: UsageFlags, _: Vec<String>) -> Outcome {
    let (filter, unused_for) = record::conditions(&flags.filter)?;
    let mut control = worker::control(cli).await?;
    let request = DiskUsageRequest { filter, ..DiskUsageRequest::default() };
    let answer = control.disk_usage(request).await.map_err(|status| worker::failed(&status))?;
    let mut records = answer.into_inner().record;
    records.retain(|record| {
        let idle = record::time(record.last_used_at.as_ref()).and_then(|used| (Utc::now() - used).to_std().ok());
        unused_for.is_zero() || idle.is_some_and(|idle| idle >= unused_for)
    });
    records.sort_by_key(|record| (record.size, record.id.clone()));
    let sums = if flags.filter.0.is_empty() { totals(&records) } else { String::new() };
    ui::print(&match (flags.verbose, flags.format.as_str()) {
        (true, "" | "pretty") | (false, "pretty") => records.iter().map(record::details).collect::<String>() + &sums,
        (false, "" | "table") => listing(&records) + &sums,
        (true, _) => return Err("ERROR: --format and --verbose cannot be used together".to_owned().into()),
        (false, format) => {
            let rows: Vec<Value> = records.iter().map(record::row).collect();
            listing::render(&COLUMNS, format, &rows)?
        }
    });
    Ok(())
}

fn listing(records: &[UsageRecord]) -> String {
    let mut text = String::from("ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED\n");
    for record in records {
        let _ = writeln!(text, "{}", record::cells(record).join("\t"));
    }
    table::align(&text)
}

fn totals(records: &[UsageRecord]) -> String {
    let sum = |wanted: &dyn Fn(&&UsageRecord) -> bool| {
        human::fine_size(records.iter().filter(wanted).map(|record| record.size).sum::<i64>())
    };
    let mut text = String::new();
    if records.iter().any(|record| record.shared) {
        let _ = writeln!(text, "Shared:\t\t{}\nPrivate:\t{}", sum(&|one| one.shared), sum(&|one| !one.shared));
    }
    let _ = writeln!(text, "Reclaimable:\t{}\nTotal:\t\t{}", sum(&|one| !one.in_use), sum(&|_| true));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_below_the_list() {
        let record = |id: &str, size, shared, mutable| UsageRecord {
            id: id.to_owned(),
            record_type: "regular".to_owned(),
            size,
            shared,
            mutable,
            ..UsageRecord::default()
        };
        let records = [record("aa", 2000, false, true), record("b", 500, true, false)];
        insta::assert_snapshot!(listing(&records) + &totals(&records), @r"
        ID        RECLAIMABLE   SIZE      LAST ACCESSED
        aa*       true          2kB       
        b         true          500B*     
        Shared:		500B
        Private:	2kB
        Reclaimable:	2.5kB
        Total:		2.5kB
        ");
        let rows: Vec<Value> = records.iter().map(record::row).collect();
        let lines = listing::render(&COLUMNS, "{{.ID}} {{.Size}} {{.Mutable}}", &rows).expect("a template");
        assert_eq!(lines, "aa 2kB true\nb 500B false\n");
    }
}

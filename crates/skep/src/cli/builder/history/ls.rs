//! `buildx history ls`.

use std::fmt::Write as _;

use chrono::{SecondsFormat, TimeDelta};
use serde_json::json;

use super::record::{self, Record};
use crate::cli::builder::worker;
use crate::cli::command::runner;
use crate::cli::flags::{FlagSet, flags};
use crate::cli::{Args, Cli, Command, Completion, Failure, Outcome};
use crate::ui::{self, human, table};

flags! {
    pub(crate) struct ListFlags {
        filter: Vec<String> => "filter", "Provide filter values (e.g., \"status=error\")";
        format: String = "table" => "format", "Format the output: \"table\" or \"json\"";
        no_trunc: bool => "no-trunc", "Don't truncate output";
    }
}

/// How much of a name is shown.
const NAME_WIDTH: usize = 40;

pub(crate) const COMMAND: Command = Command {
    paths: &["buildx history ls"],
    usage: "[OPTIONS]",
    about: "List build records",
    args: Args::None,
    completion: Completion::Nothing,
    flags: ListFlags::specs,
    run: runner!(ListFlags, run),
};

async fn run(cli: &Cli, flags: ListFlags, _: Vec<String>) -> Outcome {
    let mut control = worker::control(cli).await?;
    let records = record::all(&mut control, flags.filter).await?;
    ui::print(&match flags.format.as_str() {
        "table" | "" => listing(&records, flags.no_trunc),
        "json" => lines_of_json(&records),
        other => return Err(Failure::message(format!("unsupported format {other:?}: it is one of table, json"))),
    });
    Ok(())
}

fn listing(records: &[Record], whole: bool) -> String {
    let mut text = String::from("BUILD ID\tNAME\tSTATUS\tCREATED AT\tDURATION\n");
    for record in records {
        let name = record.name();
        let name = if whole { name } else { human::ellipsis(&name, NAME_WIDTH) };
        let created = record.created().map_or_else(String::new, |at| human::ago(at.timestamp()));
        let (id, status, took) = (record.id(), record.status(), duration(record.duration()));
        let _ = writeln!(text, "{id}\t{name}\t{status}\t{created}\t{took}");
    }
    table::align(&text)
}

/// `0.3s`, `12.0s`, `3m 04s`.
pub(super) fn duration(time: TimeDelta) -> String {
    let (minutes, seconds) = (time.num_minutes(), time.num_seconds());
    match minutes {
        0 => {
            // Rounded, as Docker's plugin does it.
            let tenths = (time.num_milliseconds() + 50) / 100;
            format!("{}.{}s", tenths / 10, tenths % 10)
        }
        _ => format!("{minutes}m {:02}s", seconds % 60),
    }
}

fn lines_of_json(records: &[Record]) -> String {
    let time = |time: Option<chrono::DateTime<chrono::Utc>>| {
        time.map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    };
    let mut text = String::new();
    for record in records {
        let (total, cached) = record.steps();
        let _ = writeln!(
            text,
            "{}",
            json!({"ref": record.id(), "name": record.name(), "status": record.status(),
                "created_at": time(record.created()), "completed_at": time(record.completed()),
                "total_steps": total, "cached_steps": cached})
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn durations_are_rounded() {
        for (milliseconds, text) in [(0, "0.0s"), (49, "0.0s"), (50, "0.1s"), (1_949, "1.9s"), (125_700, "2m 05s")] {
            assert_eq!(duration(TimeDelta::milliseconds(milliseconds)), text, "{milliseconds} ms");
        }
    }

    #[test]
    fn a_line_for_each_build() {
        let records = [record("abc", 60, Some(61), None), record("d", 60, Some(185), Some(2))];
        let text = listing(&records, false);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["BUILD", "ID", "NAME", "STATUS", "CREATED", "AT", "DURATION"]);
        assert_eq!((lines[1][0], lines[1][3], lines[1].last()), ("abc", "Completed", Some(&"1.0s")));
        assert!(lines[2][3] == "Error" && text.ends_with("2m 05s\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&lines_of_json(&records[..1])).expect("a document");
        assert_eq!(json["completed_at"], "1970-01-01T00:01:01Z");
    }
}

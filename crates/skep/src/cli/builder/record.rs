//! What the builder keeps, as `du` and `prune` show it.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use skep_buildkit::proto::google::protobuf::Timestamp;
use skep_buildkit::proto::moby::buildkit::v1::UsageRecord;

use crate::cli::Failure;
use crate::cli::value::Filter;
use crate::ui::human;

/// The conditions of `--filter` in BuildKit's words, and apart from them for how long a thing must not have been used.
pub(super) fn conditions(filter: &Filter) -> Result<(Vec<String>, std::time::Duration), Failure> {
    let mut unused_for = std::time::Duration::ZERO;
    let mut conditions: Vec<(&str, String)> = Vec::new();
    for (key, value) in &filter.0 {
        if key == "until" || key == "unused-for" {
            unused_for = skep_types::parse_go_duration(value).map_err(|error| {
                Failure::message(format!("ERROR: {key:?} filter expects a duration (e.g., '24h'): {error}"))
            })?;
            continue;
        }
        if conditions.iter().any(|(known, _)| known == key) {
            return Err(Failure::message("ERROR: filters expect only one value"));
        }
        let operator = match key.as_str() {
            "id" => "~=",
            key if key.ends_with(['~', '!']) => "=",
            _ => "==",
        };
        conditions.push((key, format!("{key}{operator}{value}")));
    }
    let all: Vec<String> = conditions.into_iter().map(|(_, text)| text).collect();
    Ok(((!all.is_empty()).then(|| all.join(",")).into_iter().collect(), unused_for))
}

/// A time as it comes.
pub(super) fn time(stamp: Option<&Timestamp>) -> Option<DateTime<Utc>> {
    stamp.and_then(|stamp| DateTime::from_timestamp(stamp.seconds, u32::try_from(stamp.nanos).ok()?))
}

fn last_used(record: &UsageRecord) -> String {
    time(record.last_used_at.as_ref()).map_or_else(String::new, |at| human::ago(at.timestamp()))
}

/// As Go prints a time.
fn created(record: &UsageRecord) -> String {
    let text = |at: DateTime<Utc>| {
        let text = at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        format!("{} +0000 UTC", text.trim_end_matches('Z').replacen('T', " ", 1))
    };
    time(record.created_at.as_ref()).map_or_else(String::new, text)
}

/// As templates see it.
pub(super) fn row(record: &UsageRecord) -> Value {
    json!({
        "CreatedAt": created(record),
        "Description": record.description,
        "ID": record.id,
        "LastUsedAt": last_used(record),
        "Mutable": record.mutable,
        "Parents": (!record.parents.is_empty()).then_some(&record.parents),
        "Reclaimable": !record.in_use,
        "Shared": record.shared,
        "Size": human::fine_size(record.size),
        "Type": record.record_type,
        "UsageCount": record.usage_count,
    })
}

/// The cells of a table: id, whether it may go, size, last use. `*` is for what changes, and for what others have too.
pub(super) fn cells(record: &UsageRecord) -> [String; 4] {
    let star = |yes: bool| if yes { "*" } else { "" };
    [
        format!("{}{}", record.id, star(record.mutable)),
        (!record.in_use).to_string(),
        format!("{}{}", human::fine_size(record.size), star(record.shared)),
        last_used(record),
    ]
}

/// All of it, a line for each thing that there is to say.
pub(super) fn details(record: &UsageRecord) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{:<14}{value}", format!("{name}:"));
    };
    line("ID", &record.id);
    if !record.parents.is_empty() {
        line("Parents", &record.parents.iter().map(|parent| format!("\n - {parent}")).collect::<String>());
    }
    line("Created at", &created(record));
    line("Mutable", &record.mutable.to_string());
    line("Reclaimable", &(!record.in_use).to_string());
    line("Shared", &record.shared.to_string());
    line("Size", &human::fine_size(record.size));
    if !record.description.is_empty() {
        line("Description", &record.description);
    }
    line("Usage count", &record.usage_count.to_string());
    if record.last_used_at.is_some() {
        line("Last used", &last_used(record));
    }
    if !record.record_type.is_empty() {
        line("Type", &record.record_type);
    }
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_said_as_buildkit_says_them() {
        let said = |given: &[(&str, &str)]| {
            let filter = Filter(given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
            conditions(&filter).map_err(|failure| failure.text)
        };
        let (conditions, unused_for) =
            said(&[("id", "abc"), ("type", "regular"), ("description~", "x"), ("type!", "a"), ("until", "24h")])
                .expect("filters");
        assert_eq!(conditions, ["id~=abc,type==regular,description~=x,type!=a"]);
        assert_eq!(unused_for.as_secs(), 86_400);
        assert_eq!(said(&[]).expect("none").0, Vec::<String>::new());
        assert!(said(&[("until", "abc")]).expect_err("no duration").contains("expects a duration (e.g., '24h')"));
        assert_eq!(said(&[("id", "a"), ("id", "b")]).expect_err("two"), "ERROR: filters expect only one value");
    }

    #[test]
    fn everything_about_a_record() {
        let record = UsageRecord {
            id: "aa".to_owned(),
            parents: vec!["b".to_owned(), "c".to_owned()],
            created_at: Some(Timestamp { seconds: 1, nanos: 500_000_000 }),
            size: 2000,
            description: "local source for context".to_owned(),
            mutable: true,
            usage_count: 3,
            record_type: "source.local".to_owned(),
            ..UsageRecord::default()
        };
        insta::assert_snapshot!(details(&record), @r"
        ID:           aa
        Parents:
         - b
         - c
        Created at:   1970-01-01 00:00:01.500 +0000 UTC
        Mutable:      true
        Reclaimable:  true
        Shared:       false
        Size:         2kB
        Description:  local source for context
        Usage count:  3
        Type:         source.local
        ");
    }
}

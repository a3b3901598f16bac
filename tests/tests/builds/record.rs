//! What Docker's builder was seen to do, and the differences from it.
//!
//! `docker.jsonl` has a line for each project, made by `cargo xtask record-builds`. `differences.txt` has a line for each
//! difference that is meant to be: `GROUP/NAME KEY: why`, or `*` for all keys. One that is listed and not there fails the
//! test, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::Value;

use crate::facts::Facts;
use crate::project::folder;

/// The facts by project.
pub(crate) type Record = BTreeMap<String, Facts>;

/// Where the record is: `SKEP_BUILD_RECORD` to have another one than that of the corpus.
pub(crate) fn file() -> PathBuf {
    std::env::var_os("SKEP_BUILD_RECORD").map_or_else(|| folder().join("docker.jsonl"), PathBuf::from)
}

/// Reads the record.
pub(crate) fn read() -> Record {
    let text = std::fs::read_to_string(file()).unwrap_or_default();
    let lines = text.lines().map(|line| {
        let mut facts: Facts = serde_json::from_str(line).unwrap();
        let name = facts.remove("project").unwrap().as_str().unwrap().to_owned();
        (name, facts)
    });
    lines.collect()
}

/// Replaces what the record has of some projects, and drops those that are gone.
pub(crate) fn write(new: Record, all: &[String]) {
    let mut record = read();
    record.extend(new);
    record.retain(|name, _| all.contains(name));
    let mut text = String::new();
    for (name, facts) in record {
        // The name first, for readers.
        let facts = Value::Object(facts).to_string();
        let _ = writeln!(text, "{{\"project\":{},{}", Value::from(name), facts.trim_start_matches('{'));
    }
    std::fs::write(file(), text).unwrap();
}

/// The differences that are explained: project and key.
pub(crate) fn explained() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(folder().join("differences.txt")).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parse = |line: &str| {
        let (what, why) = line.split_once(": ").unwrap_or_else(|| panic!("no reason in differences.txt: {line}"));
        assert!(!why.trim().is_empty(), "no reason in differences.txt: {line}");
        let (project, key) = what.split_once(' ').unwrap_or_else(|| panic!("not `GROUP/NAME KEY: why`: {line}"));
        (project.to_owned(), key.to_owned())
    };
    lines.map(parse).collect()
}

/// All differences of the projects that were built, as text; empty if there is none.
pub(crate) fn compare(built: &Record, record: &Record, explained: &[(String, String)]) -> String {
    let mut text = String::new();
    for (name, facts) in built {
        let Some(expected) = record.get(name) else {
            let _ = writeln!(text, "{name}: not in the record (cargo xtask record-builds)");
            continue;
        };
        let listed = |what: &str| explained.iter().any(|(project, key)| project == name && key == what);
        let keys: BTreeSet<&String> = facts.keys().chain(expected.keys()).collect();
        let different: Vec<&&String> = keys.iter().filter(|key| facts.get(**key) != expected.get(**key)).collect();
        for (_, key) in explained.iter().filter(|(project, _)| project == name) {
            let there = different.iter().any(|different| key == "*" || **different == key);
            if !there {
                let _ = writeln!(text, "{name} {key}: is listed in differences.txt, and there is no difference");
            }
        }
        for key in different.iter().filter(|key| !listed("*") && !listed(key)) {
            let (here, there) = (facts.get(**key).unwrap_or(&Value::Null), expected.get(**key).unwrap_or(&Value::Null));
            let _ = writeln!(text, "{name} {key}:\n{}", lines_apart(there, here));
        }
    }
    text
}

/// `-` for what only the record has, `+` for what is new.
fn lines_apart(there: &Value, here: &Value) -> String {
    let (there, here) = (lines("", there), lines("", here));
    let mut text = String::new();
    for line in there.iter().filter(|line| !here.contains(line)) {
        let _ = writeln!(text, "    - {line}");
    }
    for line in here.iter().filter(|line| !there.contains(line)) {
        let _ = writeln!(text, "    + {line}");
    }
    if text.is_empty() {
        let _ = writeln!(text, "    the order, or how often a line is there:\n    - {there:?}\n    + {here:?}");
    }
    text
}

fn lines(path: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) if path.is_empty() => {
            values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect()
        }
        Value::Object(object) => {
            object.iter().flat_map(|(key, value)| lines(&format!("{path}.{key}"), value)).collect()
        }
        other => vec![format!("{path} {other}")],
    }
}

#[test]
fn a_difference_is_found_unless_it_is_explained() {
    let facts = |layers: u32| Facts::from_iter([("layers".to_owned(), layers.into())]);
    let record = |layers| Record::from_iter([("g/a".to_owned(), facts(layers))]);
    let listed = [("g/a".to_owned(), "layers".to_owned())];
    assert_eq!(compare(&record(1), &record(1), &[]), "");
    assert!(compare(&record(1), &record(2), &[]).contains("-  2\n    +  1"));
    assert_eq!(compare(&record(1), &record(2), &listed), "");
    assert_eq!(compare(&record(1), &record(2), &[("g/a".to_owned(), "*".to_owned())]), "");
    assert!(compare(&record(1), &record(1), &listed).contains("there is no difference"));
    assert!(compare(&record(1), &Record::new(), &[]).contains("not in the record"));
}

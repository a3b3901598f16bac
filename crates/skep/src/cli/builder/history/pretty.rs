//! A build's record as people read it.

use std::fmt::Write as _;

use serde_json::Value;
use tonic::Code;

use super::inspect::{Inspected, Named, SETTINGS};

/// Cells in columns that are as wide as Go's tabwriter makes them with tabs.
fn columns(rows: &[Vec<String>]) -> String {
    const TAB: usize = 8;
    let width = |column: usize| {
        let longest = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        (longest.unwrap_or(0) / TAB + 1) * TAB
    };
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let missing = width(column) - cell.chars().count();
                text.push_str(&"\t".repeat(missing.div_ceil(TAB)));
            }
        }
        text.push('\n');
    }
    text
}

fn lines(rows: Vec<(&str, String)>) -> String {
    let filled = rows.into_iter().filter(|(_, value)| !value.is_empty());
    columns(&filled.map(|(name, value)| vec![format!("{name}:"), value]).collect::<Vec<_>>())
}

fn table(title: [&str; 2], rows: &[Named]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut all = vec![title.map(str::to_owned).to_vec()];
    all.extend(rows.iter().map(|row| vec![row.name.clone(), row.value.clone()]));
    columns(&all) + "\n"
}

/// As people read it.
pub(super) fn pretty(one: &Inspected, program: &str) -> String {
    let mut text = lines(vec![
        ("Name", one.name.clone()),
        ("Ref", one.id.clone()),
        ("Context", one.context.clone()),
        ("Dockerfile", one.dockerfile.clone()),
        ("VCS Repository", one.repository.clone()),
        ("VCS Revision", one.revision.clone()),
        ("Target", one.target.clone()),
        ("Platforms", one.platform.join(", ")),
    ]) + "\n";
    text += &table(["NAMED CONTEXT", "VALUE"], &one.named_contexts);
    text += &progress(one);
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    let settings = SETTINGS.iter().filter_map(|(name, title, _)| Some((*title, shown(one.config.get(*name)?))));
    let settings = lines(settings.collect());
    if !settings.is_empty() {
        text += &(settings + "\n");
    }
    text += &table(["BUILD ARG", "VALUE"], &one.build_args);
    text += &table(["LABEL", "VALUE"], &one.labels);
    if !one.materials.is_empty() {
        let mut rows = vec![vec!["URI".to_owned(), "DIGEST".to_owned()]];
        rows.extend(one.materials.iter().map(|material| vec![material.uri.clone(), material.digests.join(", ")]));
        text += &format!("Materials:\n{}\n", columns(&rows));
    }
    if !one.attachments.is_empty() {
        let mut rows = vec![["DIGEST", "PLATFORM", "TYPE"].map(str::to_owned).to_vec()];
        rows.extend(one.attachments.iter().map(|one| vec![one.digest.clone(), one.platform.clone(), one.kind.clone()]));
        text += &format!("Attachments:\n{}\n", columns(&rows));
    }
    if let Some(error) = &one.error {
        text += &error.sources;
        if !error.logs.is_empty() {
            let _ = writeln!(text, "Logs:\n> => {}:", error.name);
            error.logs.iter().for_each(|line| text.push_str(&format!("> {line}\n")));
            text.push('\n');
        }
    }
    let _ = writeln!(text, "Print build logs: {program} buildx history logs {}", one.id);
    text
}

/// When it was, how long it took, how it ended.
fn progress(one: &Inspected) -> String {
    let started = one.started_at.as_deref().and_then(|at| Some(at.get(..19)?.replacen('T', " ", 1)));
    let cached = match one.num_total_steps {
        0 => 0,
        total => one.num_cached_steps.saturating_mul(100) / total,
    };
    let steps = format!("{}/{} ({cached}% cached)", one.num_completed_steps, one.num_total_steps);
    let error = one.error.as_ref().map(|error| match one.status {
        "canceled" => "Canceled".to_owned(),
        _ => format!("{:?} {}", Code::from_i32(error.code), error.message),
    });
    lines(vec![
        ("Started", started.unwrap_or_default()),
        ("Duration", super::ls::duration(chrono::TimeDelta::nanoseconds(one.duration))),
        ("Error", error.unwrap_or_default()),
        ("Build Steps", steps),
    ]) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_gos() {
        let rows = [vec!["Name:".to_owned(), "x".to_owned()], vec!["Dockerfile:".to_owned(), "y".to_owned()]];
        assert_eq!(columns(&rows), "Name:\t\tx\nDockerfile:\ty\n");
        let rows = [vec!["12345678".to_owned(), String::new(), "z".to_owned()]];
        assert_eq!(columns(&rows), "12345678\t\tz\n");
    }
}

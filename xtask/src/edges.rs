//! Whether crates depend only on what they may.
//!
//! The table in ARCHITECTURE.md, under the heading "Crates", is the rule: each row has a layer, a crate, and the crates of the
//! same layer that it may use. A crate may use every crate of a lower layer; those of the layer `dev` may use everything, and
//! nothing uses them but tests.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

const TABLE: &str = "ARCHITECTURE.md";

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    layer: Layer,
    /// Crates of the same layer that it may use.
    beside: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Number(u8),
    Dev,
}

/// Between crates of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    from: String,
    to: String,
    only_for_tests: bool,
}

pub(crate) fn check() -> Result<ExitCode> {
    let text = std::fs::read_to_string(crate::paths::top().join(TABLE)).with_context(|| format!("read {TABLE}"))?;
    let rows = parse(&text)?;
    let (crates, edges) = workspace()?;
    let problems = problems(&rows, &crates, &edges);
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() {
        println!("{} crates and {} edges between them are as {TABLE} has them", crates.len(), edges.len());
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rows `| layer | crate | beside | ...`, with names in backticks.
fn parse(text: &str) -> Result<BTreeMap<String, Row>> {
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [layer, name, beside, ..] = cells[..] else { continue };
        let layer = match layer {
            "dev" => Layer::Dev,
            digit => match digit.parse() {
                Ok(number) => Layer::Number(number),
                Err(_) => continue, // the heading, or another table
            },
        };
        let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
        for name in names(name) {
            let row = Row { layer, beside: names(beside) };
            ensure!(rows.insert(name.clone(), row).is_none(), "{TABLE} has {name} twice");
        }
    }
    ensure!(!rows.is_empty(), "{TABLE} has no table of crates");
    Ok(rows)
}

fn problems(rows: &BTreeMap<String, Row>, crates: &BTreeSet<String>, edges: &[Edge]) -> Vec<String> {
    let mut problems: Vec<String> = Vec::new();
    problems
        .extend(crates.iter().filter(|name| !rows.contains_key(*name)).map(|name| format!("{name} is not in {TABLE}")));
    for edge in edges {
        let (Some(from), Some(to)) = (rows.get(&edge.from), rows.get(&edge.to)) else { continue };
        let allowed = match (from.layer, to.layer) {
            (Layer::Dev, _) => true,
            (_, Layer::Dev) => edge.only_for_tests,
            (from_layer, to_layer) => to_layer < from_layer || to_layer == from_layer && from.beside.contains(&edge.to),
        };
        if !allowed {
            problems.push(format!("{} may not depend on {} ({TABLE})", edge.from, edge.to));
        }
    }
    problems
}

fn workspace() -> Result<(BTreeSet<String>, Vec<Edge>)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(crate::paths::top());
    let output = command.output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo metadata without packages")?;
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap_or_default().to_owned();
    let crates: BTreeSet<String> = packages.iter().map(name).collect();
    let mut edges = Vec::new();
    for package in packages {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let edge = Edge { from: name(package), to: name(dependency), only_for_tests: dependency["kind"] == "dev" };
            if crates.contains(&edge.to) {
                edges.push(edge);
            }
        }
    }
    Ok((crates, edges))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "\
| layer | crate | beside | owns |
|---|---|---|---|
| 0 | `low` | | numbers |
| 1 | `one` (lib + bin), `other` | `one` | things |
| dev | `kit` | | |
";

    #[test]
    fn the_table_is_the_rule() {
        let rows = parse(ROWS).unwrap();
        assert_eq!(rows["other"], Row { layer: Layer::Number(1), beside: ["one".to_owned()].into() });
        let crates: BTreeSet<String> = ["low", "one", "other", "kit", "new"].map(str::to_owned).into();
        let edge = |from: &str, to: &str, only_for_tests| Edge { from: from.into(), to: to.into(), only_for_tests };
        let edges = [
            edge("one", "low", false),
            edge("other", "one", false),
            edge("kit", "other", false),
            edge("one", "kit", true),
            edge("low", "one", false),
            edge("other", "kit", false),
        ];
        let problems = problems(&rows, &crates, &edges);
        assert_eq!(
            problems,
            [
                "new is not in ARCHITECTURE.md",
                "low may not depend on one (ARCHITECTURE.md)",
                "other may not depend on kit (ARCHITECTURE.md)"
            ]
        );
    }

    #[test]
    fn a_page_without_the_table() {
        assert!(parse("# Architecture\n").is_err());
    }
}

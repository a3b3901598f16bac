//! Answers to questions about a Dockerfile (`docker build --check`, `--call=outline`, `--call=targets`): JSON between engine and
//! client, text for the user. The engine sends both, and clients choose; what a client does not know it prints as the engine wrote it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::errors::Source;

/// The version of all of them.
pub const VERSION: &str = "1.0.0";

/// What could be better in a Dockerfile, and what makes it unusable.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Checks {
    /// What could be better.
    #[serde(default)]
    pub warnings: Option<Vec<Warning>>,
    /// The files that places are in.
    #[serde(default)]
    pub sources: Option<Vec<File>>,
    /// What stands in the way of a build.
    #[serde(default, rename = "buildError", skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// Something that could be better.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Warning {
    /// The check's name.
    #[serde(rename = "ruleName")]
    pub rule: String,
    /// What it is about.
    pub description: String,
    /// Where that is explained.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// What it found.
    pub detail: String,
    /// Where.
    pub location: Place,
}

/// What stands in the way of a build.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Problem {
    /// The error.
    pub message: String,
    /// Where it is.
    pub location: Place,
}

/// A file.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct File {
    /// Its name.
    pub filename: String,
    /// Its text in base64.
    pub data: String,
    /// What it is written in.
    pub language: String,
}

/// Lines of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Place {
    /// Which of the files.
    #[serde(rename = "sourceIndex", skip_serializing_if = "is_zero")]
    pub source: usize,
    /// The lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Range>,
}

/// Lines that follow each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Range {
    /// The first.
    pub start: Line,
    /// The last.
    pub end: Line,
}

/// A line, counted from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Line {
    /// Its number.
    pub line: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What a target can be given.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Outline {
    /// The target, if it has a name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its build arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Parameter>,
    /// Its secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Parameter>,
    /// Its ssh agents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<Parameter>,
    /// Its cache mounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<Cache>,
    /// The files, in base64.
    pub sources: Vec<String>,
}

/// A build argument, a secret or an agent.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The value of an argument.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Whether the build fails without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Where it is asked for.
    pub location: Place,
}

/// A cache mount.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Cache {
    /// Its name.
    #[serde(rename = "ID")]
    pub id: String,
    /// Where it is asked for.
    pub location: Place,
}

/// What can be built.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Targets {
    /// The stages.
    pub targets: Vec<Target>,
    /// The files, in base64.
    pub sources: Vec<String>,
}

/// A stage.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Target {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Whether it is built if nothing else is said.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// What it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it begins with.
    pub base: String,
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// Where it is.
    pub location: Place,
}

/// A question that the engine answers.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Question {
    /// Its name.
    pub name: String,
    /// The version of its answer.
    pub version: String,
    /// `rpc`.
    pub r#type: String,
    /// What is asked.
    pub description: String,
    /// Names of what the answer holds.
    pub metadata: Vec<BTreeMap<String, String>>,
}

impl Checks {
    /// Whether anything was found.
    pub fn found(&self) -> bool {
        self.error.is_some() || self.warnings.as_ref().is_some_and(|warnings| !warnings.is_empty())
    }

    /// The warnings with their lines, an empty line in front of each. Files have the names that `named` gives them.
    pub fn text(&self, named: impl Fn(&str) -> String) -> String {
        let mut out = String::new();
        for warning in self.warnings.iter().flatten() {
            out.push_str(&format!("\nWARNING: {}", warning.rule));
            if !warning.url.is_empty() {
                out.push_str(&format!(" - {}", warning.url));
            }
            out.push_str(&format!("\n{}\n{}", warning.detail, self.excerpt(&warning.location, &named)));
        }
        out
    }

    /// The error, with its lines.
    pub fn failure(&self, named: impl Fn(&str) -> String) -> Option<String> {
        let error = self.error.as_ref()?;
        Some(format!("{}\n{}", error.message, self.excerpt(&error.location, &named)))
    }

    fn excerpt(&self, place: &Place, named: &impl Fn(&str) -> String) -> String {
        let file = self.sources.as_ref().and_then(|files| files.get(place.source));
        let text = file.and_then(|file| String::from_utf8(STANDARD.decode(&file.data).ok()?).ok());
        let ranges = place.ranges.iter().map(|range| (range.start.line, range.end.line)).collect();
        let source = file.zip(text).map(|(file, text)| Source { file: named(&file.filename), text, ranges });
        source.map(|source| source.excerpt()).unwrap_or_default()
    }
}

impl Outline {
    /// As tables.
    pub fn text(&self) -> String {
        let mut out = String::new();
        if !self.name.is_empty() || !self.description.is_empty() {
            out.push_str(&format!("TARGET: {}\n", self.name));
            if !self.description.is_empty() {
                out.push_str(&format!("DESCRIPTION: {}\n", self.description));
            }
            out.push('\n');
        }
        let arguments = self.args.iter().map(|one| vec![one.name.as_str(), &one.value, &one.description]);
        out.push_str(&section(&["BUILD ARG", "VALUE", "DESCRIPTION"], arguments.collect()));
        for (title, list) in [("SECRET", &self.secrets), ("SSH", &self.ssh)] {
            let rows = list.iter().map(|one| vec![one.name.as_str(), if one.required { "true" } else { "" }]);
            out.push_str(&section(&[title, "REQUIRED"], rows.collect()));
        }
        out
    }
}

impl Targets {
    /// As a table.
    pub fn text(&self) -> String {
        let name = |target: &Target| match (target.name.is_empty(), target.default) {
            (false, true) => format!("{} (default)", target.name),
            (true, true) => "(default)".to_owned(),
            (_, false) => target.name.clone(),
        };
        let names: Vec<String> = self.targets.iter().map(name).collect();
        let rows = names.iter().zip(&self.targets).map(|(name, target)| vec![name.as_str(), &target.description]);
        table(&["TARGET", "DESCRIPTION"], rows.collect(), 1)
    }
}

impl Question {
    /// Several as a table.
    pub fn table(questions: &[Question]) -> String {
        let short = |name| str::strip_prefix(name, "frontend.").unwrap_or(name);
        let rows = questions.iter().map(|one| vec![short(&one.name), &one.version, &one.description]);
        table(&["NAME", "VERSION", "DESCRIPTION"], rows.collect(), 1)
    }
}

/// A table of its own, or nothing.
fn section<'a>(titles: &[&'a str], rows: Vec<Vec<&'a str>>) -> String {
    if rows.is_empty() { String::new() } else { table(titles, rows, 3) + "\n" }
}

/// Columns as wide as their widest cell and `gap` more; the last one as wide as it is.
fn table<'a>(titles: &[&'a str], mut rows: Vec<Vec<&'a str>>, gap: usize) -> String {
    rows.insert(0, titles.to_vec());
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + gap;
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let width = if column + 1 == row.len() { 0 } else { widths[column] };
            out.push_str(&format!("{cell:<width$}"));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(line: usize) -> Place {
        Place { source: 0, ranges: vec![Range { start: Line { line }, end: Line { line } }] }
    }

    #[test]
    fn checks_read_as_a_list() {
        let warning = |rule: &str| Warning {
            rule: rule.to_owned(),
            url: "https://docs.docker.com/x".to_owned(),
            detail: "Something".to_owned(),
            location: range(1),
            ..Warning::default()
        };
        let file = File { filename: "Dockerfile".to_owned(), data: STANDARD.encode("FROM a\n"), ..File::default() };
        let checks = Checks {
            warnings: Some(vec![warning("One"), warning("Two")]),
            sources: Some(vec![file]),
            error: Some(Problem { message: "no".to_owned(), location: range(1) }),
        };
        let excerpt = "dir/Dockerfile:1\n--------------------\n   1 | >>> FROM a\n   2 |     \n--------------------\n";
        let one = |rule: &str| format!("\nWARNING: {rule} - https://docs.docker.com/x\nSomething\n{excerpt}");
        let named = |file: &str| format!("dir/{file}");
        assert_eq!(checks.text(named), one("One") + &one("Two"));
        assert_eq!(checks.failure(named), Some(format!("no\n{excerpt}")));
        assert!(checks.found() && !Checks::default().found());
    }

    #[test]
    fn outlines_are_tables() {
        let parameter = |name: &str, value: &str, required| Parameter {
            name: name.to_owned(),
            value: value.to_owned(),
            required,
            ..Parameter::default()
        };
        let outline = Outline {
            name: "second".to_owned(),
            args: vec![parameter("WHO", "me", false), parameter("NONE", "", false)],
            secrets: vec![parameter("a", "", false), parameter("longer-name", "", true)],
            ..Outline::default()
        };
        let wanted = "TARGET: second\n\nBUILD ARG   VALUE   DESCRIPTION\nWHO         me      \nNONE                \n\n\
                      SECRET        REQUIRED\na             \nlonger-name   true\n\n";
        assert_eq!(outline.text(), wanted);
    }

    #[test]
    fn targets_are_a_table() {
        let target = |name: &str, default| Target { name: name.to_owned(), default, ..Target::default() };
        let targets = Targets { targets: vec![target("base", false), target("", true)], ..Targets::default() };
        assert_eq!(targets.text(), "TARGET    DESCRIPTION\nbase      \n(default) \n");
        let json = serde_json::to_string(&targets.targets[1]).expect("json");
        assert_eq!(json, r#"{"default":true,"base":"","location":{}}"#);
    }
}

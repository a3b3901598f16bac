//! `--check` and `--call`: questions about a Dockerfile instead of a build.

use std::collections::HashMap;
use std::path::Path;

use skep_buildkit::answers::Checks;

use super::request::BuildFlags;
use crate::cli::value::parse_bool;
use crate::cli::{Failure, Outcome, csv};
use crate::ui;

/// A question, and how its answer is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Call {
    /// What the frontend calls it.
    pub(super) name: String,
    json: bool,
    /// Findings are no failure.
    ignores_status: bool,
}

impl Call {
    /// Reads `check`, `outline,format=json`, ...; none for `build`.
    fn parse(text: &str) -> Result<Option<Self>, String> {
        let mut call = Call::default();
        for field in csv::fields(text)? {
            match field.split_once('=') {
                None if call.name.is_empty() => call.name = field,
                None => return Err(format!("invalid print value: {field}, expected key=value")),
                Some(("format", "json")) => call.json = true,
                Some(("format", "text")) => call.json = false,
                Some(("ignorestatus", value)) => call.ignores_status = parse_bool(value)?,
                Some(_) => {
                    return Err(format!("invalid call {field:?}: it is format=json, format=text or ignorestatus"));
                }
            }
        }
        match call.name.as_str() {
            "build" | "" => Ok(None),
            "check" => Ok(Some(Call { name: "lint".to_owned(), ..call })),
            _ => Ok(Some(call)),
        }
    }

    /// Prints the answer. `file` is the Dockerfile as the user names it.
    pub(super) fn show(&self, answer: &HashMap<String, String>, file: &Path) -> Outcome {
        let value = |key: &str| answer.get(key).map(String::as_str).unwrap_or_default();
        let code = match self.ignores_status {
            true => 0,
            false => value("result.statuscode").parse().unwrap_or(0),
        };
        let failed = |text: String| Failure::new(code.max(1), format!("ERROR: {text}"));
        let checks = match self.name.as_str() {
            "lint" => Some(serde_json::from_str::<Checks>(value("result.json"))?),
            _ => None,
        };
        match &checks {
            _ if self.json => ui::line(value("result.json")),
            Some(checks) => ui::print(&summary(checks, |name| named(file, name))),
            None => ui::print(value("result.txt")),
        }
        match checks.and_then(|checks| checks.failure(|name| named(file, name))) {
            Some(text) => Err(failed(text)),
            None if code == 0 => Ok(()),
            None => Err(Failure::silent(code)),
        }
    }
}

impl BuildFlags {
    /// What is asked instead of a build.
    pub(super) fn call(&self) -> Result<Option<Call>, String> {
        Call::parse(if self.check { "check" } else { &self.call })
    }
}

/// The engine knows only the last part of a path.
fn named(file: &Path, name: &str) -> String {
    let same = file.file_name().is_some_and(|last| last == name);
    if same { file.display().to_string() } else { name.to_owned() }
}

fn summary(checks: &Checks, named: impl Fn(&str) -> String) -> String {
    let count = checks.warnings.as_ref().map_or(0, Vec::len);
    let end = match (count, &checks.error) {
        (0, None) => return "Check complete, no warnings found.\n".to_owned(),
        (0, Some(_)) => return String::new(),
        (1, _) => "1 warning has been found!".to_owned(),
        (count, _) => format!("{count} warnings have been found!"),
    };
    // The error follows on stderr.
    let gap = if checks.error.is_some() { "\n" } else { "" };
    format!("Check complete, {end}\n{}{gap}", checks.text(named))
}

#[cfg(test)]
mod tests {
    use skep_buildkit::answers::{Problem, Warning};

    use super::*;

    #[test]
    fn calls_have_options() {
        let call = |name: &str| Call { name: name.to_owned(), ..Call::default() };
        assert_eq!(Call::parse("build"), Ok(None));
        assert_eq!(Call::parse("check"), Ok(Some(call("lint"))));
        assert_eq!(Call::parse("targets,format=json"), Ok(Some(Call { json: true, ..call("targets") })));
        assert_eq!(Call::parse("check,ignorestatus=true"), Ok(Some(Call { ignores_status: true, ..call("lint") })));
        assert!(Call::parse("check,format=xml").is_err());
    }

    #[test]
    fn findings_are_counted() {
        let warning = || Warning { rule: "R".to_owned(), detail: "d".to_owned(), ..Warning::default() };
        let checks = |count: usize| Checks { warnings: Some(vec![warning(); count]), ..Checks::default() };
        let text = |checks: &Checks| summary(checks, str::to_owned);
        assert_eq!(text(&checks(0)), "Check complete, no warnings found.\n");
        assert_eq!(text(&checks(1)), "Check complete, 1 warning has been found!\n\nWARNING: R\nd\n");
        assert!(text(&checks(2)).starts_with("Check complete, 2 warnings have been found!\n"));
        assert_eq!(text(&Checks { error: Some(Problem::default()), ..Checks::default() }), "");
    }

    #[test]
    fn files_have_the_names_that_they_were_given_by() {
        assert_eq!(named(Path::new("dir/Dockerfile"), "Dockerfile"), "dir/Dockerfile");
        assert_eq!(named(Path::new("dir/Dockerfile"), "other"), "other");
    }
}

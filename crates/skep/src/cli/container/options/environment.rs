//! Environment variables and labels: words on the command line and lines of files.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cli::Failure;
use crate::cli::failure::go_path_error;
use crate::cli::flags::FlagValue;

/// `--env NAME=value`, or `NAME` for the value that the client's own environment has.
#[derive(Debug, Default)]
pub(crate) struct Environment(pub(crate) Vec<String>);

impl FlagValue for Environment {
    const TYPE: &'static str = "list";

    fn set(&mut self, text: &str) -> Result<(), String> {
        if text.is_empty() || text.starts_with('=') {
            return Err(format!("invalid environment variable: {text}"));
        }
        // Without a value here either, the name alone goes to the engine: it unsets what the image sets.
        self.0.push(match (text.contains('='), std::env::var(text)) {
            (false, Ok(value)) => format!("{text}={value}"),
            _ => text.to_owned(),
        });
        Ok(())
    }
}

/// `--label name[=value]`.
#[derive(Debug, Default)]
pub(crate) struct Labels(pub(crate) Vec<String>);

impl FlagValue for Labels {
    const TYPE: &'static str = "list";

    fn set(&mut self, text: &str) -> Result<(), String> {
        // White space as Docker counts it; what precedes the name is forgiven, and stays.
        let is_space = |c: char| matches!(c, ' ' | '\t');
        let name = text.split('=').next().unwrap_or_default().trim_start_matches(is_space);
        if name.is_empty() {
            return Err(format!("invalid label '{text}': empty name"));
        }
        if name.contains(is_space) {
            return Err(format!("label '{name}' contains whitespaces"));
        }
        self.0.push(text.to_owned());
        Ok(())
    }
}

impl Labels {
    /// Values by name; the last of a name wins.
    pub(crate) fn into_map(self) -> BTreeMap<String, String> {
        to_map(self.0)
    }
}

fn to_map(labels: Vec<String>) -> BTreeMap<String, String> {
    let pair = |label: String| match label.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (label, String::new()),
    };
    labels.into_iter().map(pair).collect()
}

/// The environment of files and of the command line; later ones win where the engine applies them in order.
pub(crate) fn environment(files: &[String], given: Vec<String>) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for file in files {
        for line in read_lines(Path::new(file))? {
            match line.split_once('=') {
                Some(("", _)) => {
                    return Err(Failure::message(format!(
                        "invalid env file ({file}): no variable name on line '{line}'"
                    )));
                }
                Some((name, _)) => {
                    check_name(file, "env", name)?;
                    all.push(line);
                }
                None => {
                    check_name(file, "env", &line)?;
                    if let Ok(value) = std::env::var(&line) {
                        all.push(format!("{line}={value}"));
                    }
                }
            }
        }
    }
    all.extend(given);
    Ok(all)
}

/// The labels of files and of the command line.
pub(crate) fn labels(files: &[String], given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut all = Vec::new();
    for file in files {
        for line in read_lines(Path::new(file))? {
            let name = line.split('=').next().unwrap_or_default();
            if name.is_empty() {
                return Err(Failure::message(format!("invalid env file ({file}): no variable name on line '{line}'")));
            }
            check_name(file, "env", name)?;
            all.push(line);
        }
    }
    all.extend(given.iter().cloned());
    Ok(to_map(all))
}

fn check_name(file: &str, kind: &str, name: &str) -> Result<(), Failure> {
    if name.contains(|c: char| c.is_whitespace()) {
        return Err(Failure::message(format!("invalid {kind} file ({file}): variable '{name}' contains whitespaces")));
    }
    Ok(())
}

/// Lines of a file without comments and empty ones.
fn read_lines(path: &Path) -> Result<Vec<String>, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::message(go_path_error("open", path, &e)))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::message(format!("invalid env file ({}): invalid utf8 bytes", path.display())))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Ok(text
        .lines()
        .map(|line| line.trim_start().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_before_the_command_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("env");
        std::fs::write(&file, "\u{feff}# note\n\nA=1\n  B=x y\nSKEP_TEST_SURELY_UNSET\n").expect("written");
        let file = file.display().to_string();
        assert_eq!(
            environment(std::slice::from_ref(&file), vec!["C=3".into()]).expect("good"),
            ["A=1", "B=x y", "C=3"]
        );
        let labels = labels(&[file], &["A=2".into(), "z".into()]).expect("good");
        assert_eq!((labels["A"].as_str(), labels["z"].as_str()), ("2", ""));
    }

    #[test]
    fn wrong_lines_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("env");
        for (line, reason) in
            [("=x", "no variable name on line '=x'"), ("a b=c", "variable 'a b' contains whitespaces")]
        {
            std::fs::write(&file, line).expect("written");
            let failure = environment(&[file.display().to_string()], vec![]).expect_err(line);
            assert!(failure.text.ends_with(reason), "{}", failure.text);
        }
        assert_eq!(
            environment(&["/nope".into()], vec![]).expect_err("gone").text,
            "open /nope: no such file or directory"
        );
    }
}

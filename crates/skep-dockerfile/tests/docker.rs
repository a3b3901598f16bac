//! What `docker buildx build --call=check` of Docker 28.5 said to a list of Dockerfiles, odd ones and wrong ones, and what is said
//! here. `docker-28.5.jsonl` has one on each line: the file, what it is built with, the findings (rule, first line, last line,
//! message), and the error.

use std::collections::BTreeMap;

use serde_json::Value;
use skep_dockerfile::ignore::{self, Matcher};
use skep_dockerfile::lint::{Inputs, check};
use skep_types::Platform;

/// Findings and error in one comparable form.
type Outcome = (Vec<(String, u64, u64, String)>, Option<String>, Option<(u64, u64)>);

fn text<'c>(case: &'c Value, key: &str) -> Option<&'c str> {
    case.get(key).and_then(Value::as_str)
}

fn expected(case: &Value) -> Outcome {
    let number = |value: &Value| value.as_u64().expect("a line");
    let word = |value: &Value| value.as_str().expect("a text").to_owned();
    let findings = case["findings"].as_array().expect("findings").iter();
    let lines = case.get("error_lines").map(|lines| (number(&lines[0]), number(&lines[1])));
    let findings = findings.map(|f| (word(&f[0]), number(&f[1]), number(&f[2]), word(&f[3]))).collect();
    (findings, text(case, "error").map(str::to_owned), lines)
}

fn found(case: &Value) -> Result<Outcome, String> {
    let arguments: BTreeMap<String, String> = case
        .get("build_args")
        .map(|given| serde_json::from_value(given.clone()).expect("arguments"))
        .unwrap_or_default();
    let platform: Platform = "linux/amd64".parse().expect("a platform");
    let patterns = ignore::read(text(case, "dockerignore").unwrap_or_default().as_bytes());
    let matcher = Matcher::new(&patterns).map_err(|error| error.to_string())?;
    let inputs = Inputs {
        arguments: &arguments,
        build_platform: &platform,
        target_platform: &platform,
        target: text(case, "target"),
        all_stages: text(case, "target").is_none(),
        ignored: Some(&matcher),
        images: &(),
    };
    let report = check(text(case, "dockerfile").expect("a file").as_bytes(), &inputs);
    let number = |line: usize| u64::try_from(line).expect("a line");
    let findings = report.findings.into_iter();
    let findings = findings.map(|f| (f.rule.name.to_owned(), number(f.lines.start), number(f.lines.end), f.message));
    // Docker names no line where it has none to name; ours may name one then.
    let lines = report.error.as_ref().and_then(|error| error.lines()).filter(|_| case.get("error_lines").is_some());
    let lines = lines.map(|lines| (number(lines.start), number(lines.end)));
    Ok((findings.collect(), report.error.map(|error| error.to_string()), lines))
}

#[test]
fn the_same_is_said() {
    let mut differences = String::new();
    for line in include_str!("docker-28.5.jsonl").lines() {
        let case: Value = serde_json::from_str(line).expect(line);
        let (expected, found) = (expected(&case), found(&case).unwrap_or_else(|error| (Vec::new(), Some(error), None)));
        if expected != found {
            differences += &format!("{}\n  docker: {expected:?}\n  ours:   {found:?}\n", case["dockerfile"]);
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

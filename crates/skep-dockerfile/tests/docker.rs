//! What `docker buildx build --call=check` of Docker 28.5 said to a list of Dockerfiles, odd ones and wrong ones, and what is said
//! here. `docker-28.5.jsonl` has one on each line: the file, what it is built with, the findings (rule, first line, last line,
//! message), and the error. `docker-28.5-words.jsonl` has words, and what became of them as the value of a label.
//! `docker-28.5-ignored.jsonl` has the files of a context, and then `.dockerignore` files with what they left of it.
//! `docker-28.5-documents.jsonl` has heredocs of COPY and the files that they became.

use std::collections::BTreeMap;

use serde_json::Value;
use skep_dockerfile::expand::Expander;
use skep_dockerfile::ignore::{self, Matcher, Matches};
use skep_dockerfile::lint::{Inputs, check};
use skep_dockerfile::scope::{BuildArguments, Globals, Scope};
use skep_dockerfile::{Escape, Instruction, parse};
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

/// What stood before each of the labels.
const HEAD: &str = r#"FROM scratch
ARG A=one
ARG E=
ARG NOVALUE
ENV P=/usr/lib/x/lib/y.tar.gz W="a  b" D='$A' S=a*b?c B="x\\y" U=üöü Q=a"b"c'd'e N=5
"#;

fn label(word: &str) -> Result<String, String> {
    let file = parse(format!("{HEAD}LABEL k={word}\n").as_bytes()).map_err(|error| error.to_string())?;
    let mut scope = Scope::new([]);
    for step in &file.stages[0].steps {
        let mut instruction = step.instruction.clone();
        let expanded = instruction.expand(&mut Expander::new(Escape::Backslash, &scope));
        expanded.map_err(|error| error.to_string())?;
        match instruction {
            Instruction::Arg(arg) => {
                let given = BuildArguments::new();
                scope.declare(&arg.arguments[0], &Globals::default(), &given, Escape::Backslash).0.expect("a default");
            }
            Instruction::Env(env) => env.pairs.into_iter().for_each(|pair| scope.set(&pair.name, pair.value)),
            Instruction::Label(label) => return Ok(label.pairs[0].value.clone()),
            other => panic!("{other:?}"),
        }
    }
    panic!("no label")
}

#[test]
fn words_become_the_same() {
    let mut differences = String::new();
    for line in include_str!("docker-28.5-words.jsonl").lines() {
        let case: Value = serde_json::from_str(line).expect(line);
        let word = text(&case, "text").expect("a word");
        let expected = match text(&case, "value") {
            Some(value) => Ok(value.to_owned()),
            None => Err(text(&case, "error").expect("an error").to_owned()),
        };
        let found = label(word);
        if found != expected {
            differences += &format!("{word}\n  docker: {expected:?}\n  ours:   {found:?}\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// Whether a walk over the context comes to a file and takes it.
fn is_kept(matcher: &Matcher, path: &str) -> bool {
    let mut above: Option<Matches> = None;
    for (at, _) in path.match_indices('/') {
        let directory = &path[..at];
        let (is_out, matches) = matcher.matches_below(directory, above.as_ref());
        if is_out && matcher.is_closed(directory) {
            return false;
        }
        above = Some(matches);
    }
    !matcher.matches_below(path, above.as_ref()).0
}

#[test]
fn the_same_is_left_out() {
    let mut lines = include_str!("docker-28.5-ignored.jsonl").lines();
    let files: Vec<String> = serde_json::from_str(lines.next().expect("the files")).expect("a list");
    let mut differences = String::new();
    for line in lines {
        let case: Value = serde_json::from_str(line).expect(line);
        let file = text(&case, "file").expect("a file");
        let expected = match text(&case, "error") {
            Some(error) => Err(error.to_owned()),
            None => Ok(serde_json::from_value::<Vec<String>>(case["kept"].clone()).expect("paths")),
        };
        let found = Matcher::new(&ignore::read(file.as_bytes())).map_err(|error| error.to_string()).map(|matcher| {
            let mut kept: Vec<String> = files.iter().filter(|path| is_kept(&matcher, path)).cloned().collect();
            kept.sort();
            kept
        });
        if found != expected {
            differences += &format!("{file:?}\n  docker: {expected:?}\n  ours:   {found:?}\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn documents_have_the_same_content() {
    for line in include_str!("docker-28.5-documents.jsonl").lines() {
        let case: Value = serde_json::from_str(line).expect(line);
        let dockerfile = text(&case, "dockerfile").expect("a file");
        let file = parse(dockerfile.as_bytes()).expect(dockerfile);
        let mut instruction = file.stages[0].steps[1].instruction.clone();
        let variables = BTreeMap::from([("A".to_owned(), "one".to_owned())]);
        instruction.expand(&mut Expander::new(Escape::Backslash, &variables)).expect(dockerfile);
        let Instruction::Copy(copy) = instruction else { panic!("{dockerfile}") };
        let [document] = copy.transfer.documents.as_slice() else { panic!("{dockerfile}") };
        let found = (Some(document.name.as_str()), Some(document.content.as_str()));
        assert_eq!(found, (text(&case, "name"), text(&case, "content")), "{dockerfile}");
    }
}

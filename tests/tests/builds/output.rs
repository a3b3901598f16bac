//! What a client of a builder prints, without what differs between two runs of the same.

use std::collections::{BTreeMap, BTreeSet};

/// What `--progress=plain` says.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The names of the steps, sorted.
    pub(crate) steps: Vec<String>,
    /// Those that were in the cache.
    pub(crate) cached: Vec<String>,
    /// What the checks found.
    pub(crate) warnings: Vec<String>,
    /// From where the error begins to the end.
    pub(crate) error: Vec<String>,
}

/// Reads the client's output; `same` makes words the same in each run.
pub(crate) fn progress(text: &str, same: impl Fn(&str) -> String) -> Progress {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut cached: BTreeSet<String> = BTreeSet::new();
    let mut progress = Progress::default();
    let mut in_warnings = false;
    for line in without_colours(text).lines() {
        if !progress.error.is_empty() || line == "------" || line.starts_with("ERROR:") {
            // The client says the one or the other, by which of its two calls it hears first of the failure.
            progress.error.push(same(&line.replace("failed to run Build function: ", "failed to solve: ")));
            continue;
        }
        if let Some((number, rest)) = line.strip_prefix('#').and_then(|rest| rest.split_once(' ')) {
            if rest.starts_with("building with ") {
                continue; // about the client
            }
            if rest == "CACHED" {
                cached.insert(number.to_owned());
            } else {
                names.entry(number.to_owned()).or_insert_with(|| same(rest));
            }
        } else if line.contains("warning found") || line.contains("warnings found") {
            in_warnings = true;
        } else if in_warnings && line.starts_with(" - ") {
            progress.warnings.push(same(line.trim_start_matches(" - ")));
        }
    }
    let known = |number: &String| names.get(number).map(|name| shared(name));
    progress.cached = cached.iter().filter_map(known).collect();
    progress.cached.sort();
    progress.steps =
        names.values().filter(|name| !OWN_STEPS.contains(&name.as_str())).map(|name| shared(name)).collect();
    progress.steps.sort();
    progress.warnings.sort();
    // Whatever else stands before the error (times of the steps, other steps that were cancelled) is about time.
    while progress.error.last().is_some_and(String::is_empty) {
        progress.error.pop();
    }
    progress
}

/// Steps that are about how BuildKit does things, and not about a Dockerfile.
const OWN_STEPS: [&str; 3] =
    ["[internal] preparing inline document", "[internal] setting cache mount permissions", "copy /context /"];

/// Stages that begin with the same image share that step, and BuildKit names it by whichever of them came first.
fn shared(name: &str) -> String {
    match name.split_once("] FROM ") {
        Some((stage, image)) if stage.contains(' ') => format!("[*] FROM {image}"),
        _ => name.to_owned(),
    }
}

/// The text without the escape sequences of a terminal.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, rest)| rest))
}

/// Replaces ids, digests, durations and dates.
pub(crate) fn normal(text: &str) -> String {
    // A number of BuildKit's own for a directory of the client.
    if let Some((before, rest)) = text.split_once("of ref ") {
        let after = rest.split_once(": ").map_or("", |(_, after)| after);
        return format!("{}of ref ID: {}", normal(before), normal(after));
    }
    let mut out = String::new();
    let mut word = String::new();
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || matches!(character, '.' | '_') {
            word.push(character);
        } else {
            out.push_str(&normal_word(&word));
            word.clear();
            out.push(character);
        }
    }
    out.push_str(&normal_word(&word));
    out
}

fn normal_word(word: &str) -> String {
    let hex = word.chars().all(|character| matches!(character, '0'..='9' | 'a'..='f'));
    let mixed = word.contains(|character: char| character.is_ascii_digit())
        && word.contains(|character: char| character.is_ascii_lowercase());
    let has_digit = word.contains(|character: char| character.is_ascii_digit());
    if hex && (word.len() == 64 || word.len() == 12 && has_digit || word.len() == 25 && mixed) {
        return "ID".to_owned();
    }
    // `0.123`, `1.2s`: how long something took.
    let number = word.strip_suffix('s').unwrap_or(word);
    if let Some((whole, part)) = number.split_once('.') {
        let digits = |text: &str| !text.is_empty() && text.chars().all(|character| character.is_ascii_digit());
        if digits(whole) && digits(part) && (part.len() == 3 || word.ends_with('s')) {
            return "TIME".to_owned();
        }
    }
    word.to_owned()
}

#[test]
fn plain_progress() {
    let text = "#0 building with \"default\" instance using docker driver\n\n#1 [internal] load x\n#1 DONE 0.0s\n\n#2 [1/2] FROM a\n#2 CACHED\n\
                \n 1 warning found (use docker --debug to expand):\n\u{1b}[0m - Rule: text (line 1)\n------\n > RUN x:\n0.123 no\n------\nERROR: failed\n";
    let progress = progress(text, normal);
    assert_eq!(progress.cached, ["[1/2] FROM a"]);
    assert_eq!(progress.steps.len(), 2);
    assert_eq!(progress.warnings, ["Rule: text (line 1)"]);
    assert_eq!(progress.error, ["------", " > RUN x:", "TIME no", "------", "ERROR: failed"]);
}

#[test]
fn what_differs_is_replaced() {
    assert_eq!(normal(" ---> Running in 0123456789ab"), " ---> Running in ID");
    assert_eq!(normal("took 1.5s of 1.36 at sha256:0123"), "took TIME of 1.36 at sha256:0123");
    assert_eq!(normal("deadbeef: 12"), "deadbeef: 12");
    assert_eq!(normal(" ---> 878098589147"), " ---> ID");
}

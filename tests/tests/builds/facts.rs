//! All that is compared of a build: a line of the record.

use serde_json::{Map, Value, json};
use skep_testkit::{Api, Image, Outcome, sha256};

use crate::output;
use crate::project::Project;
use crate::tree::Tree;

/// Trees with more lines than this are recorded as a digest.
const MANY: usize = 400;

/// What was seen of a build, by what it is about: `code`, `error`, `tree`, `config`, `history` and so on.
pub(crate) type Facts = Map<String, Value>;

/// What the client did and printed.
pub(crate) fn of_client(project: &Project, outcome: &Outcome, same: impl Fn(&str) -> String) -> Facts {
    let mut facts = Facts::new();
    facts.insert("code".into(), outcome.code.into());
    let mut add = |key: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            facts.insert(key.to_owned(), lines.into());
        }
    };
    add("printed", outcome.stdout.lines().map(&same).collect());
    if project.classic {
        // A warning of the client itself comes first.
        let lines = outcome.stderr.lines().filter(|line| !line.is_empty() && !is_about_the_client(line));
        add("error", lines.map(&same).collect());
    } else {
        let progress = output::progress(&outcome.stderr, same);
        add("error", progress.error);
        add("warnings", progress.warnings);
        // How far the others came when one fails is about time.
        if outcome.code == 0 {
            add("steps", progress.steps);
        }
        if project.again.is_some() {
            add("cached", progress.cached);
        }
    }
    facts
}

fn is_about_the_client(line: &str) -> bool {
    line.contains("legacy builder is deprecated")
        || line.contains("BuildKit is currently disabled")
        || line.starts_with("            ")
}

/// An image in the engine.
pub(crate) fn of_image(project: &Project, api: &Api, name: &str) -> Facts {
    let inspected = api.call("GET", &format!("/images/{name}/json"), None);
    if inspected["RootFS"]["Layers"].as_array().is_none_or(Vec::is_empty) {
        return without_layers(&inspected);
    }
    let reply = api.request("GET", &format!("/images/{name}/get"), None).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    let blob = |wanted: &str| find(&reply.body, wanted).unwrap_or_else(|| panic!("{name}: no {wanted} in the archive"));
    let json = |wanted: &str| -> Value { serde_json::from_slice(&blob(wanted)).unwrap() };
    let manifest = json("manifest.json");
    let mut config = json(manifest[0]["Config"].as_str().unwrap());
    let mut tree = Tree::default();
    for layer in manifest[0]["Layers"].as_array().unwrap() {
        tree.apply(&blob(layer.as_str().unwrap()));
    }
    let mut facts = Facts::new();
    let history = config.as_object_mut().unwrap().remove("history").unwrap_or_default();
    // The classic builder has digests in it that are of times, too.
    let normal = |line: String| if project.classic { output::normal(&line) } else { line };
    let steps = history.as_array().into_iter().flatten().map(|entry| Value::from(normal(step(entry))));
    facts.insert("history".into(), steps.collect());
    facts.insert("layers".into(), config["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len).into());
    // The rest is of the classic builder: which container it was made in, and from which image.
    for key in ["rootfs", "container", "container_config", "docker_version"] {
        config.as_object_mut().unwrap().remove(key);
    }
    config["config"].as_object_mut().map(|settings| settings.remove("Image"));
    facts.insert("config".into(), without_empty(config));
    facts.insert("tree".into(), tree_lines(project, &tree));
    facts
}

/// An image that Docker can't save, as there is nothing in it.
fn without_layers(inspected: &Value) -> Facts {
    let config = json!({
        "architecture": inspected["Architecture"], "variant": inspected["Variant"], "os": inspected["Os"],
        "config": inspected["Config"],
    });
    Facts::from_iter([("config".to_owned(), without_empty(config)), ("layers".to_owned(), 0.into())])
}

/// An archive of files.
pub(crate) fn of_archive(project: &Project, archive: &[u8]) -> Facts {
    let mut tree = Tree::default();
    tree.apply(archive);
    Facts::from_iter([("tree".to_owned(), tree_lines(project, &tree))])
}

/// What is in the tree and not in busybox's, then what is in busybox's only.
fn tree_lines(project: &Project, tree: &Tree) -> Value {
    let mut base = Tree::default();
    for layer in &Image::busybox().layers {
        base.apply(layer);
    }
    let (lines, base) = (tree.lines(&project.ignore), base.lines(&project.ignore));
    let from_base = lines.iter().any(|line| line.starts_with("bin/busybox "));
    if !from_base {
        return compact(lines);
    }
    let gone = |line: &&String| {
        let name = line.split(' ').next().unwrap_or_default();
        !lines.iter().any(|have| have.split(' ').next() == Some(name))
    };
    let gone: Vec<String> =
        base.iter().filter(gone).map(|line| format!("-{}", line.split(' ').next().unwrap_or_default())).collect();
    // That something was made and removed in a directory is no difference.
    let touched = |line: &str| {
        base.iter().any(|base| base.contains(" d ") && base.rsplit_once(" @").is_some_and(|(base, _)| base == line))
    };
    let new = lines.iter().filter(|line| !base.contains(line) && !touched(line)).cloned();
    compact(new.chain(gone).collect())
}

fn compact(lines: Vec<String>) -> Value {
    if lines.len() <= MANY {
        return lines.into();
    }
    json!([format!("{} files", lines.len()), sha256(lines.join("\n").as_bytes())])
}

/// A step of the history on a line.
fn step(step: &Value) -> String {
    let text = |key: &str| step[key].as_str().unwrap_or_default();
    let mut line = text("created_by").to_owned();
    for (key, mark) in [("comment", " # "), ("author", " by ")] {
        if !text(key).is_empty() {
            line.push_str(mark);
            line.push_str(text(key));
        }
    }
    if step["empty_layer"] == true {
        line.push_str(" (empty)");
    }
    if is_fixed(text("created")) {
        line.push_str(" @");
        line.push_str(text("created"));
    }
    line
}

/// The configuration without what is not set, nor when it was made.
fn without_empty(mut config: Value) -> Value {
    fn prune(value: &mut Value) {
        if let Some(object) = value.as_object_mut() {
            object.values_mut().for_each(prune);
            object.retain(|_, value| !value.is_null() && *value != "" && *value != false);
        }
    }
    if !config["created"].as_str().is_some_and(is_fixed) {
        config.as_object_mut().unwrap().remove("created");
    }
    prune(&mut config);
    config
}

/// Whether a date is one of before the year of the build.
fn is_fixed(date: &str) -> bool {
    date.get(..4).and_then(|year| year.parse::<u32>().ok()).is_some_and(|year| year < 2026)
}

/// A file of a tar archive in memory.
fn find(archive: &[u8], name: &str) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut wanted = name.to_owned();
    let mut archive_of = tar::Archive::new(archive);
    for entry in archive_of.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path_bytes() != wanted.as_bytes() {
            continue;
        }
        if entry.header().entry_type().is_symlink() {
            // Docker links a layer that is there twice.
            let target = entry.link_name().unwrap().unwrap().to_string_lossy().into_owned();
            wanted = target.trim_start_matches("../").to_owned();
            return find(archive, &wanted);
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        return Some(bytes);
    }
    None
}

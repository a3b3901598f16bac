//! Disk usage and what gives it back.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;
use skep_testkit::{Engine, EngineKind, ImageBuilder};

use super::engine;

/// Bytes in the regular files below a directory, as they say and as they take on disk; and how many files and directories.
fn measured(dir: &Path) -> (u64, u64, u64) {
    let mut sum = (0, 0, 0);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let found = entry.metadata().unwrap();
        let below = if found.is_dir() { measured(&entry.path()) } else { (0, 0, 0) };
        let bytes = if found.is_file() { found.len() } else { 0 };
        sum = (sum.0 + bytes + below.0, sum.1 + found.blocks() * 512 + below.1, sum.2 + 1 + below.2);
    }
    sum
}

/// Three images: two with a common layer of a megabyte, one on its own.
fn three_images(engine: &Engine) {
    let common: &[(&str, u32, &[u8])] = &[("common", 0o644, &[7; 1_000_000])];
    engine.load(&ImageBuilder::new("shared:1").layer(common).layer(&[("one", 0o644, &[1; 30_000])]).build());
    engine.load(&ImageBuilder::new("shared:2").layer(common).layer(&[("two", 0o644, &[2; 50_000])]).build());
    engine.load(&ImageBuilder::empty("alone:1").layer(&[("three", 0o644, &[3; 70_000])]).build());
}

fn usage(engine: &Engine) -> Value {
    engine.api().call("GET", "/v1.51/system/df", None)
}

#[test]
fn shared_layers_count_once() {
    let engine = Engine::start();
    three_images(&engine);
    engine.run(["create", "--name", "user", "shared:1"]).success();
    let usage = usage(&engine);
    let image = |name: &str| -> Value {
        let list = usage["Images"].as_array().unwrap();
        list.iter().find(|image| image["RepoTags"][0] == name).unwrap().clone()
    };
    let number = |value: &Value| value.as_u64().unwrap();
    let (one, two, alone) = (image("shared:1"), image("shared:2"), image("alone:1"));
    assert_eq!(number(&one["Size"]) - number(&one["SharedSize"]), 30_000);
    assert_eq!(number(&two["Size"]) - number(&two["SharedSize"]), 50_000);
    assert_eq!((number(&alone["Size"]), number(&alone["SharedSize"])), (70_000, 0));
    assert_eq!(one["SharedSize"], two["SharedSize"]);
    assert_eq!((&one["Containers"], &two["Containers"]), (&Value::from(1), &Value::from(0)));
    let layers = number(&usage["LayersSize"]);
    assert_eq!(layers, number(&one["SharedSize"]) + 30_000 + 50_000 + 70_000);
    if engine.kind() == EngineKind::Skep {
        let mut disk = (0, 0, 0);
        for layer in std::fs::read_dir(engine.data_root().join("layers")).unwrap() {
            let (bytes, blocks, files) = measured(&layer.unwrap().path().join("fs"));
            disk = (disk.0 + bytes, disk.1 + blocks, disk.2 + files);
        }
        assert_eq!(layers, disk.0, "what `du --apparent-size` says of the files");
        assert!(disk.1.abs_diff(layers) <= disk.2 * 4096, "{layers} bytes take {} in {} files", disk.1, disk.2);
    }
}

#[test]
fn usage_in_a_table() {
    let engine = Engine::start();
    three_images(&engine);
    engine.run(["volume", "create", "data"]).success();
    engine
        .run([
            "run",
            "--name",
            "writer",
            "-v",
            "data:/data",
            "shared:1",
            "dd",
            "if=/dev/zero",
            "of=/data/x",
            "bs=1000",
            "count=20",
        ])
        .success();
    engine.run(["exec", "writer", "true"]).code_is(1);
    engine.run(["run", "--name", "wrote", "shared:1", "dd", "if=/dev/zero", "of=/x", "bs=1000", "count=5"]).success();
    let table = engine.run(["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}"]).success();
    table.stdout_has("Images 3 1 ").stdout_has("Containers 2 0 5kB").stdout_has("Local Volumes 1 1 20kB");
    let details = engine.run(["system", "df", "-v"]).success();
    details
        .stdout_has("Images space usage:")
        .stdout_has("SHARED SIZE   UNIQUE SIZE   CONTAINERS")
        .stdout_has("Containers space usage:")
        .stdout_has("Local Volumes space usage:")
        .stdout_has("Build cache usage: 0B");
    let volume = &usage(&engine)["Volumes"][0];
    assert_eq!(
        (&volume["UsageData"]["Size"], &volume["UsageData"]["RefCount"]),
        (&Value::from(20_000), &Value::from(1))
    );
    let only = engine.api().call("GET", "/system/df?type=volume", None);
    assert!(only["Images"].is_null() && only["Containers"].is_null() && only["Volumes"].is_array());
}

#[test]
fn a_dry_run_says_what_a_prune_does() {
    if !own_words("a_dry_run_says_what_a_prune_does") {
        return;
    }
    let engine = engine();
    three_images(&engine);
    engine.run(["run", "--name", "done", "shared:2", "true"]).success();
    engine.run(["run", "-d", "--init", "--name", "on", "busybox", "sleep", "1000"]).success();
    let lines = |text: &str| -> Vec<String> {
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !line.starts_with("Would") && !line.starts_with("Deleted"))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines.iter().map(|line| line.replace("reclaimable", "reclaimed")).collect()
    };
    let preview = engine.run(["image", "prune", "-a", "--dry-run"]).success();
    let preview = preview.stdout_has("untagged: shared:1").stdout_has("Total reclaimable space: 100kB");
    assert!(!preview.stdout.contains("shared:2"), "a stopped container needs it\n{preview}");
    let preview = engine.run(["system", "prune", "-a", "--dry-run"]).success();
    let preview = preview.stdout_has("Would delete Containers:").stdout_has("untagged: shared:2");
    assert_eq!(engine.run(["images", "-q"]).stdout.lines().count(), 4, "nothing is removed");
    let pruned = engine.run(["system", "prune", "-a", "-f"]).success();
    assert_eq!(lines(&preview.stdout), lines(&pruned.stdout));
    engine.run(["images", "--format", "{{.Repository}}"]).success().stdout_is("busybox\n");
    engine.run(["system", "prune", "-a", "--dry-run"]).success().stdout_is("Total reclaimable space: 0B\n");
}

#[test]
fn prune_obeys_filters() {
    let engine = Engine::start();
    for (name, label) in [("keep:1", "keep"), ("drop:1", "drop")] {
        let settings = serde_json::json!({"Labels": {"role": label}});
        engine.load(&ImageBuilder::empty(name).layer(&[(label, 0o644, b"x")]).settings(settings).build());
    }
    let left = || engine.run(["images", "--format", "{{.Repository}}"]).success().stdout;
    engine.run(["image", "prune", "-af", "--filter", "until=1000000h"]).success();
    engine.run(["image", "prune", "-f", "--filter", "label=role=drop"]).success();
    assert_eq!(left().lines().count(), 2, "neither old enough nor dangling");
    engine.run(["image", "prune", "-af", "--filter", "label!=role=keep"]).success().stdout_has("untagged: drop:1");
    assert_eq!(left(), "keep\n");
    engine.run(["image", "prune", "-af", "--filter", "colour=red"]).code_is(1).stderr_has("invalid filter 'colour'");
    engine.run(["tag", "keep:1", "other:1"]).success();
    engine.run(["rmi", "other:1"]).success();
    engine
        .run(["image", "prune", "-af", "--filter", "label=role=keep"])
        .success()
        .stdout_has("Total reclaimed space: 1B");
    assert_eq!(left(), "");
}

/// Bytes that are free where the data root is.
fn free(engine: &Engine) -> u64 {
    engine.api().call("GET", "/skep/gc", None)["Free"].as_u64().unwrap()
}

/// Loads an image of so many megabytes that differs by its number.
fn load_big(engine: &Engine, name: &str, megabytes: usize, number: u8) {
    let content = vec![number; megabytes << 20];
    engine.load(&ImageBuilder::empty(name).layer(&[("big", 0o644, &content)]).build());
}

#[test]
fn a_disk_that_runs_full_is_cleared_of_what_nothing_needs() {
    if !own_words("a_disk_that_runs_full_is_cleared_of_what_nothing_needs") {
        return;
    }
    let engine = Engine::builder()
        .disk("120m")
        .argument("--gc-free-space-low=55MB")
        .argument("--gc-free-space-high=60MB")
        .argument("--gc-min-age=0s")
        .argument("--gc-keep=kept/*")
        .start();
    let images = || -> Vec<String> {
        let list = engine.run(["images", "-a", "--format", "{{.Repository}}:{{.Tag}}"]).success().stdout;
        let mut list: Vec<String> = list.lines().map(str::to_owned).collect();
        list.sort();
        list
    };
    load_big(&engine, "app:1", 15, 1); // will be without a tag
    load_big(&engine, "app:1", 15, 2);
    engine.run(["create", "--name", "stopped", "app:1", "true"]).success();
    load_big(&engine, "app:1", 15, 3); // the second one is without a tag, but a container needs it
    load_big(&engine, "kept/app:1", 15, 4);
    assert_eq!(images().len(), 4);
    let plan = engine.run(["system", "gc", "--dry-run"]).success();
    plan.stdout_has("enough: nothing goes by itself").stdout_has("no tag, last used").stdout_has("1 container uses it");
    assert_eq!(images().len(), 4, "a dry run removes nothing");

    load_big(&engine, "last:1", 15, 5); // now less than 55 MB is left
    skep_testkit::until("the one that nothing needs is gone", || images().len() == 4);
    assert_eq!(images(), ["<none>:<none>", "app:1", "kept/app:1", "last:1"]);
    skep_testkit::until("its room is given back", || free(&engine) > 60_000_000);
    let log = engine.log();
    assert!(log.contains("collected garbage: little space was left"), "{log}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 1;
    let events =
        engine.run(["events", "--since", "1h", "--until", &now.to_string(), "--filter", "event=prune"]).success();
    events.stdout_has("trigger=free-space");
    engine.run(["inspect", "stopped"]).success();
    engine.run(["system", "df"]).success();
}

#[test]
fn tagged_images_go_by_their_last_use_if_that_is_set() {
    if !own_words("tagged_images_go_by_their_last_use_if_that_is_set") {
        return;
    }
    let mut engine = Engine::builder()
        .disk("150m")
        .argument("--gc-free-space-low=50MB")
        .argument("--gc-free-space-high=60MB")
        .argument("--gc-min-age=0s")
        .argument("--gc-tagged")
        .argument("--gc-keep=label=keep")
        .start();
    let names = |engine: &Engine| -> Vec<String> {
        let list = engine.run(["images", "--format", "{{.Repository}}"]).success().stdout;
        let mut list: Vec<String> = list.lines().map(str::to_owned).collect();
        list.sort();
        list
    };
    let settings = serde_json::json!({"Labels": {"keep": "yes"}});
    engine.load(&ImageBuilder::empty("marked:1").layer(&[("big", 0o644, &[9; 1 << 20])]).settings(settings).build());
    for (number, name) in ["one:1", "two:1", "three:1"].into_iter().enumerate() {
        load_big(&engine, name, 25, u8::try_from(number).unwrap());
    }
    engine.run(["create", "--name", "brief", "one:1", "true"]).success();
    engine.run(["rm", "brief"]).success();
    engine.stop(); // last uses survive the daemon
    engine.launch();
    assert_eq!(names(&engine), ["marked", "one", "three", "two"]);
    load_big(&engine, "four:1", 25, 4);
    skep_testkit::until("the one that was not used for the longest time is gone", || names(&engine).len() == 4);
    assert_eq!(names(&engine), ["four", "marked", "one", "three"]);
}

/// Whether both sides are this project's: Docker has no word for what is tested.
#[expect(clippy::print_stderr, reason = "a skip is told")]
pub(crate) fn own_words(test: &str) -> bool {
    let docker = |name: &str| std::env::var(name).as_deref() == Ok("docker");
    let own = !docker("SKEP_TEST_ENGINE") && !docker("SKEP_TEST_CLIENT");
    if !own {
        eprintln!("SKIPPED {test}: Docker has no such thing");
    }
    own
}

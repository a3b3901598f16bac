//! Damage in the data root: found, named, and mended where that is possible.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use skep_testkit::{Engine, Image, ImageBuilder, Registry};

use super::upkeep::own_words;

/// All regular files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

/// The file of this name in some layer.
fn in_layers(engine: &Engine, name: &str) -> PathBuf {
    let all = files(&engine.data_root().join("layers"));
    all.into_iter().find(|path| path.file_name().is_some_and(|found| found == name)).unwrap()
}

/// Changes one bit, as a bad disk does: size and times stay.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let modified = path.metadata().unwrap().modified().unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

/// Makes a file or directory look as if it had been there for a while.
fn age(path: &Path) {
    let past = SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::open(path).unwrap().set_modified(past).unwrap();
}

fn image() -> Image {
    ImageBuilder::new("app:1").layer(&[("data/one", 0o644, &[1; 100_000]), ("data/two", 0o644, b"two")]).build()
}

/// Kind and state of each finding.
fn findings(engine: &Engine, arguments: &[&str], code: i32) -> Vec<(String, String, Value)> {
    let arguments = [&["system", "check", "--format", "json"], arguments].concat();
    let report = engine.run(arguments).code_is(code).json();
    let list = report["Findings"].as_array().cloned().unwrap_or_default();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    list.iter().map(|finding| (text(finding, "Kind"), text(finding, "State"), finding.clone())).collect()
}

fn short(found: &[(String, String, Value)]) -> Vec<(&str, &str)> {
    found.iter().map(|(kind, state, _)| (kind.as_str(), state.as_str())).collect()
}

#[test]
fn nothing_wrong() {
    if !own_words("nothing_wrong") {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start());
    engine.pull(&registry, &image());
    engine.run(["volume", "create", "data"]).success();
    engine.run(["create", "--name", "cc", &registry.name("app:1"), "true"]).success();
    let clean = engine.run(["system", "check"]).success();
    clean.stdout_is("Checked 1 images, 2 blobs, 2 layers, 1 containers, 1 volumes: no damage\n");
}

#[test]
fn every_damage_of_a_pulled_image_is_mended_from_its_registry() {
    if !own_words("every_damage_of_a_pulled_image_is_mended_from_its_registry") {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start());
    let image = image();
    let name = engine.pull(&registry, &image);
    let blob = |digest: &str| engine.data_root().join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let (config, layer) = (blob(&image.id()), || {
        in_layers(&engine, "one").parent().unwrap().parent().unwrap().parent().unwrap().to_owned()
    });
    let damages: [(&str, &dyn Fn()); 6] = [
        ("layer", &|| flip(&in_layers(&engine, "one"))),
        ("layer", &|| std::fs::remove_file(in_layers(&engine, "two")).unwrap()),
        ("layer", &|| flip(&layer().join("split"))),
        ("layer", &|| std::fs::remove_dir_all(layer()).unwrap()),
        ("blob", &|| flip(&config)),
        ("blob", &|| std::fs::File::options().write(true).open(&config).unwrap().set_len(10).unwrap()),
    ];
    for (number, (kind, damage)) in damages.iter().enumerate() {
        damage();
        let found = findings(&engine, &[], 1);
        assert_eq!(short(&found), [(*kind, "found")], "damage {number}");
        assert_eq!(found[0].2["NeededBy"][0], name.as_str(), "damage {number}");
        let found = findings(&engine, &["--repair"], 0);
        assert_eq!(short(&found), [(*kind, "mended")], "damage {number}: {found:?}");
        assert!(findings(&engine, &[], 0).is_empty(), "damage {number}");
        engine
            .run(["run", "--rm", &name, "sh", "-c", "wc -c < /data/one; cat /data/two"])
            .success()
            .stdout_is("100000\ntwo");
    }
}

#[test]
fn a_layer_in_use_is_mended_beside_the_running_container() {
    if !own_words("a_layer_in_use_is_mended_beside_the_running_container") {
        return;
    }
    let (mut engine, registry) = (Engine::start(), Registry::start());
    let name = engine.pull(&registry, &image());
    engine.run(["run", "-d", "--init", "--name", "on", &name, "sleep", "1000"]).success();
    engine.run(["exec", "on", "sh", "-c", "echo mine > /written"]).success();
    let damaged = in_layers(&engine, "one");
    flip(&damaged);
    let found = findings(&engine, &["--repair"], 0);
    assert_eq!(short(&found), [("layer", "mended")]);
    assert!(found[0].2["Remedy"].as_str().unwrap().contains("have to be restarted"), "{found:?}");
    assert!(damaged.exists(), "the container that runs has it open");
    engine.run(["exec", "on", "sh", "-c", "cat /written; cat /data/two"]).success().stdout_is("mine\ntwo");
    engine.kill();
    engine.launch();
    assert!(damaged.exists(), "it still runs");
    assert!(findings(&engine, &[], 0).is_empty());
    engine.run(["restart", "-t", "1", "on"]).success();
    let sum = engine.run(["exec", "on", "sh", "-c", "tr -d '\\001' < /data/one | wc -c; cat /written"]).success();
    sum.stdout_is("0\nmine\n");
    engine.run(["rm", "-f", "on"]).success();
    engine.run(["system", "gc"]).success();
    skep_testkit::until("the damaged one is gone", || !damaged.exists());
}

#[test]
fn what_came_from_nowhere_is_lost_and_says_what_to_do() {
    if !own_words("what_came_from_nowhere_is_lost_and_says_what_to_do") {
        return;
    }
    let engine = Engine::start();
    engine.load(&image());
    flip(&in_layers(&engine, "one"));
    let outcome = engine.run(["system", "check", "--repair"]).code_is(1);
    let outcome = outcome.stdout_has("lost").stdout_has("it came from no registry that is known; remove app:1");
    assert_eq!(outcome.stderr, "");
    engine.run(["rmi", "-f", "app:1"]).success();
    engine.load(&image());
    assert!(findings(&engine, &[], 0).is_empty(), "the advice was good");
}

#[test]
fn directories_and_records_that_lost_each_other() {
    if !own_words("directories_and_records_that_lost_each_other") {
        return;
    }
    let engine = super::engine();
    let root = engine.data_root();
    engine.run(["create", "--name", "cc", "busybox", "true"]).success();
    let id = engine.inspect("cc")["Id"].as_str().unwrap().to_owned();
    engine.run(["volume", "create", "gone"]).success();
    std::fs::remove_dir_all(root.join("containers").join(&id).join("rw")).unwrap();
    std::fs::remove_dir_all(root.join("volumes/gone")).unwrap();
    for stray in ["layers/stray", "volumes/found/_data", "blobs/sha256/half"] {
        std::fs::create_dir_all(root.join(stray)).unwrap();
    }
    std::fs::write(root.join("volumes/found/_data/file"), "precious").unwrap();
    std::fs::write(
        root.join("blobs/sha256").join("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        "",
    )
    .unwrap();
    let lost = root.join("containers").join("ab".repeat(32));
    std::fs::create_dir_all(lost.join("rw/upper")).unwrap();
    std::fs::write(lost.join("rw/upper/file"), "precious too").unwrap();
    age(&root.join("volumes/found"));
    age(&lost);
    let mut found = findings(&engine, &[], 1);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let kinds: Vec<&str> = found.iter().map(|(kind, ..)| kind.as_str()).collect();
    let all = ["container", "stray container", "stray file", "stray file", "stray volume", "unneeded blob", "volume"];
    assert_eq!(kinds, all);

    let mut found = findings(&engine, &["--repair"], 1);
    found.retain(|(_, state, _)| state != "mended");
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(short(&found), [("container", "lost"), ("volume", "lost")], "what was in them");
    assert!(findings(&engine, &[], 0).is_empty());
    engine.run(["run", "--rm", "-v", "found:/v", "busybox", "cat", "/v/file"]).success().stdout_is("precious");
    let kept = root.join("recovered").join("ab".repeat(32));
    assert_eq!(std::fs::read_to_string(kept.join("rw/upper/file")).unwrap(), "precious too");
    engine.run(["start", "-a", "cc"]).success();
    std::fs::remove_dir_all(root.join("recovered")).unwrap();
}

#[test]
fn a_private_registry_is_asked_with_the_users_credentials() {
    if !own_words("a_private_registry_is_asked_with_the_users_credentials") {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start_protected());
    let client = engine.scratch().join("client");
    std::fs::create_dir_all(&client).unwrap();
    let as_user = |words: &[&str]| engine.command(words).env("DOCKER_CONFIG", &client);
    let name = registry.name("app:1");
    engine.load(&image());
    engine.run(["tag", "app:1", &name]).success();
    as_user(&["login", "-u", "me", "-p", "secret", registry.address()]).run().success();
    as_user(&["push", "-q", &name]).run().success();
    engine.run(["rmi", "app:1"]).success();
    flip(&in_layers(&engine, "one"));
    let lost = findings(&engine, &["--repair"], 1);
    assert_eq!(short(&lost), [("layer", "lost")], "without credentials");
    as_user(&["system", "check", "--repair"]).run().success().stdout_has("fetched again from");
    assert!(findings(&engine, &[], 0).is_empty());
}

//! The daemon is killed at its worst moments, and the disk is full at bad ones: what was acknowledged is there, what was not is gone
//! without a trace.

use std::collections::BTreeMap;
use std::path::Path;

use skep_testkit::{Engine, Image, ImageBuilder, Registry, until};

use super::upkeep::own_words;

/// Places in the daemon's code (`crash_point`), and how often each is come to before it matters.
const PLACES: [&str; 14] = [
    "blob-written",
    "blob-written:2",
    "layers-staged",
    "layers-renamed",
    "layers-forgotten",
    "db-commit",
    "db-commit:2",
    "db-committed",
    "db-committed:2",
    "image-blobs",
    "image-stored",
    "discarded",
    "discarded:2",
    "trash",
];

/// The files of a data root with their sizes. Directories at the top stay once they are made; the database is compared elsewhere.
fn files(root: &Path) -> BTreeMap<String, u64> {
    fn walk(dir: &Path, shown: &str, found: &mut BTreeMap<String, u64>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let shown = format!("{shown}/{}", entry.file_name().to_string_lossy());
            let Ok(metadata) = std::fs::symlink_metadata(entry.path()) else { continue };
            if metadata.is_dir() {
                walk(&entry.path(), &shown, found);
                if shown.matches('/').count() > 1 && !shown.ends_with("blobs/sha256") {
                    found.insert(shown, 0);
                }
            } else if shown != "/meta.redb" {
                found.insert(shown, metadata.len());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, "", &mut found);
    found
}

/// Removes everything and waits until the data root is as it was at first.
fn assert_empties(engine: &Engine, fresh: &BTreeMap<String, u64>, context: &str) {
    for container in engine.run(["ps", "-aq"]).success().stdout.lines() {
        engine.run(["rm", "-f", "-v", container]).success();
    }
    engine.run(["system", "prune", "-a", "-f", "--volumes"]).success();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while files(&engine.data_root()) != *fresh {
        let left: Vec<_> =
            files(&engine.data_root()).into_iter().filter(|(name, _)| !fresh.contains_key(name)).collect();
        assert!(std::time::Instant::now() < deadline, "{context}: left behind: {left:?}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn assert_sound(engine: &Engine, context: &str) {
    let check = engine.run(["system", "check"]);
    assert_eq!(check.code, 0, "{context}: {check}");
}

/// Whether the programs under test have places to crash at.
pub(super) fn can_crash(test: &str) -> bool {
    cfg!(debug_assertions) && std::env::var_os("SKEP_BIN_DIR").is_none() && own_words(test)
}

fn image(name: &str) -> Image {
    let layers: [&[(&str, u32, &[u8])]; 2] = [&[("one", 0o644, &[1; 20_000])], &[("two", 0o644, &[2; 30_000])]];
    ImageBuilder::new(name).layer(layers[0]).layer(layers[1]).build()
}

/// Crashes an operation at every place that it comes to. `prepare` comes first each time; `acknowledged` is what has to hold after
/// the operation has reported success.
fn crash_everywhere(
    test: &str,
    prepare: impl Fn(&Engine),
    operation: impl Fn(&Engine) -> i32,
    acknowledged: impl Fn(&Engine) -> bool,
) {
    if !can_crash(test) {
        return;
    }
    let mut engine = Engine::start();
    let fresh = files(&engine.data_root());
    let mut crashes = 0;
    for place in PLACES {
        prepare(&engine);
        engine.crash_at(place);
        let code = operation(&engine);
        crashes += usize::from(engine.recover());
        assert!(code != 0 || acknowledged(&engine), "{place}: what was acknowledged is not there");
        assert_sound(&engine, place);
        assert_empties(&engine, &fresh, place);
        assert_sound(&engine, place);
    }
    assert!(crashes > 3, "only {crashes} crashes");
}

fn has(engine: &Engine, image: &str) -> bool {
    engine.run(["image", "inspect", image]).code == 0
}

#[test]
fn killed_while_pulling() {
    let registry = Registry::start();
    registry.push("app:1", &image("app:1"));
    let name = registry.name("app:1");
    crash_everywhere(
        "killed_while_pulling",
        |_| {},
        |engine| engine.run(["pull", "-q", &name]).code,
        |engine| has(engine, &name),
    );
}

#[test]
fn killed_while_loading() {
    let archive = image("app:1").archive();
    crash_everywhere(
        "killed_while_loading",
        |_| {},
        |engine| engine.command(["load", "-q"]).stdin(archive.clone()).run().code,
        |engine| has(engine, "app:1"),
    );
}

#[test]
fn killed_while_removing() {
    let two = [image("app:1"), ImageBuilder::new("app:2").layer(&[("three", 0o644, b"3")]).build()];
    crash_everywhere(
        "killed_while_removing",
        |engine| two.iter().for_each(|image| engine.load(image)),
        |engine| engine.run(["rmi", "app:1"]).code,
        |engine| !has(engine, "app:1") && has(engine, "app:2"),
    );
}

#[test]
fn killed_while_pruning() {
    crash_everywhere(
        "killed_while_pruning",
        |engine| {
            engine.load(&image("app:1"));
            engine.run(["create", "--name", "user", "app:1", "true"]).success();
            engine.load(&ImageBuilder::new("app:2").layer(&[("three", 0o644, b"3")]).build());
        },
        |engine| engine.run(["image", "prune", "-af"]).code,
        |engine| has(engine, "app:1") && !has(engine, "app:2"),
    );
}

#[test]
fn killed_while_committing() {
    crash_everywhere(
        "killed_while_committing",
        |engine| {
            engine.load(&image("app:1"));
            engine.run(["run", "--name", "base", "app:1", "sh", "-c", "echo new > /new"]).success();
        },
        |engine| engine.run(["commit", "base", "made:1"]).code,
        |engine| engine.run(["run", "--rm", "made:1", "cat", "/new"]).stdout == "new\n",
    );
}

#[test]
fn killed_while_making_and_removing_a_container() {
    crash_everywhere(
        "killed_while_making_and_removing_a_container",
        |engine| engine.load(&image("app:1")),
        |engine| {
            let made = engine.run(["create", "--name", "one", "app:1", "true"]).code;
            let removed = engine.run(["rm", "one"]).code;
            made.max(removed)
        },
        |engine| engine.run(["ps", "-aq"]).stdout.is_empty(),
    );
}

#[test]
fn everything_removed_is_nothing_left() {
    if !own_words("everything_removed_is_nothing_left") {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start());
    let database = || std::fs::metadata(engine.data_root().join("meta.redb")).unwrap().len();
    engine.run(["system", "gc"]).success();
    let (fresh, size) = (files(&engine.data_root()), database());

    let name = engine.pull(&registry, &image("app:1"));
    engine.load(Image::busybox());
    engine
        .run([
            "run",
            "--name",
            "one",
            "-v",
            "data:/data",
            "-v",
            "/anonymous",
            &name,
            "sh",
            "-c",
            "echo x > /data/x; echo y > /y",
        ])
        .success();
    engine.run(["commit", "one", "made:1"]).success();
    engine.run(["tag", "made:1", "again:1"]).success();
    engine.run(["run", "-d", "--init", "--name", "on", "made:1", "sleep", "1000"]).success();
    let file = engine.scratch().join("saved.tar").display().to_string();
    engine.run(["save", "-o", &file, "made:1", "busybox"]).success();
    engine.run(["rm", "-f", "on"]).success();
    engine.run(["rmi", "-f", "made:1", "again:1"]).success();
    engine.run(["load", "-i", &file]).success();
    for number in 0..30 {
        engine.run(["tag", "busybox", &format!("many:{number}")]).success();
    }
    assert!(files(&engine.data_root()).len() > fresh.len() + 10);
    engine.run(["rm", "-f", "-v", "one"]).success();
    engine.run(["volume", "rm", "data"]).success();
    assert_empties(&engine, &fresh, "everything was removed");
    engine.run(["system", "gc"]).success();
    assert!(database() <= size, "the database has {} bytes, it had {size}", database());
}

/// Fills the disk of a data root; dropped, it is free again.
struct Filler(std::path::PathBuf);

impl Filler {
    fn leaving(engine: &Engine, bytes: u64) -> Filler {
        let path = engine.data_root().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let error = std::io::copy(&mut std::io::repeat(0xaa), &mut file).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        let size = file.metadata().unwrap().len();
        file.set_len(size.saturating_sub(bytes)).unwrap();
        Filler(path)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_full_disk_stops_what_needs_it_and_nothing_else() {
    if !own_words("a_full_disk_stops_what_needs_it_and_nothing_else") {
        return;
    }
    const FULL: &str = "no space left on device";
    let (engine, registry) = (Engine::builder().disk("48m").argument("--gc=false").start(), Registry::start());
    let fresh = files(&engine.data_root());
    let content: Vec<u8> = (0..6_000_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let big = ImageBuilder::new("big:1").layer(&[("big", 0o644, &content)]).build();
    registry.push("big:1", &big);
    let name = registry.name("big:1");
    engine.load(Image::busybox());
    engine.run(["run", "-d", "--init", "--name", "on", "busybox", "sleep", "1000"]).success();
    engine.run(["run", "--name", "wrote", "busybox", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=6"]).success();

    let wrote = engine.inspect("wrote")["Id"].as_str().unwrap().to_owned();
    let mut before = files(&engine.data_root());
    before.retain(|name, _| !name.contains(&wrote)); // it will be removed
    let filler = Filler::leaving(&engine, 3_000_000);
    engine.run(["pull", &name]).code_is(1).stderr_has(FULL);
    engine.command(["load"]).stdin(big.archive()).run().code_is(1).stderr_has(FULL);
    engine.run(["commit", "wrote", "made:1"]).code_is(1).stderr_has(FULL);
    engine.run(["images", "-q"]).success().stdout_is(&format!("{}\n", &Image::busybox().id()[7..19]));
    engine
        .run(["exec", "on", "sh", "-c", "dd if=/dev/zero of=/fill bs=1M count=10; rm /fill"])
        .success()
        .stderr_has("No space left");
    drop(filler);

    let filler = Filler::leaving(&engine, 0);
    let made = engine.run(["create", "--name", "three", "busybox"]); // may still fit into the database
    assert!(made.code == 0 || made.stderr.contains(FULL), "{made}");
    let _ = engine.run(["tag", "busybox", "more:1"]); // may still fit into the database
    engine.run(["exec", "on", "echo", "alive"]).success().stdout_is("alive\n");
    engine.run(["rm", "wrote"]).success(); // what gives room back has to work without room
    drop(filler);

    engine.run(["image", "prune", "-af"]).success(); // the unfinished download
    let _ = engine.run(["rmi", "more:1"]);
    let _ = engine.run(["rm", "three"]);
    until("what failed has left nothing", || {
        let now = files(&engine.data_root());
        now.keys().eq(before.keys())
    });
    assert_sound(&engine, "after the disk was full");
    engine.run(["pull", "-q", &name]).success();
    engine.run(["run", "--rm", &name, "sh", "-c", "wc -c < /big"]).success().stdout_is("6000000\n");
    engine.run(["create", "--name", "three", "busybox"]).success();
    assert_empties(&engine, &fresh, "after the disk was full");
}

#[test]
fn a_log_that_does_not_fit_does_not_stop_the_container() {
    if !own_words("a_log_that_does_not_fit_does_not_stop_the_container") {
        return;
    }
    let engine = Engine::builder().disk("24m").argument("--gc=false").start();
    engine.load(Image::busybox());
    let gate = engine.scratch();
    let volume = format!("{}:/gate", gate.display());
    let script = "echo first; until [ -e /gate/open ]; do sleep 0.05; done; i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); \
                  echo line $i of many that do not fit on the disk; done; touch /gate/said; until [ -e /gate/free ]; do sleep 0.05; \
                  done; echo last";
    engine.run(["run", "-d", "--name", "talker", "-v", &volume, "busybox", "sh", "-c", script]).success();
    until("it has begun", || engine.run(["logs", "talker"]).stdout == "first\n");
    let filler = Filler::leaving(&engine, 0);
    std::fs::write(gate.join("open"), "").unwrap();
    until("it has said all", || gate.join("said").exists());
    drop(filler);
    std::fs::write(gate.join("free"), "").unwrap();
    engine.run(["wait", "talker"]).success().stdout_is("0\n");
    let logs = engine.run(["logs", "talker"]).success().stdout;
    assert!(logs.starts_with("first\n") && logs.ends_with("last\n"), "{logs}");
}

#[test]
fn removed_while_it_is_pulled_and_run() {
    if !own_words("removed_while_it_is_pulled_and_run") {
        return;
    }
    let (engine, registry) = (Engine::start(), Registry::start());
    registry.push("app:1", &image("app:1"));
    let name = registry.name("app:1");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for arguments in [vec!["image", "prune", "-af"], vec!["rmi", "-f", &name], vec!["rmi", &name]] {
            let (engine, stop) = (&engine, &stop);
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let outcome = engine.run(&arguments);
                    let expected = outcome.code == 0
                        || outcome.stderr.contains("No such image")
                        || outcome.stderr.contains("conflict");
                    assert!(expected, "{outcome}");
                }
            });
        }
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..15 {
                engine.run(["pull", "-q", &name]).success();
                // What `run` has pulled can be gone before it makes the container, with Docker too; once made it has its files.
                let ran = engine.run(["run", "--rm", &name, "wc", "-c", "/two"]);
                let refused = ran.code == 125 && ran.stderr.contains("No such image");
                assert!(refused || ran.stdout == "30000 /two\n", "{ran}");
            }
        }));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        work.unwrap();
    });
    assert_sound(&engine, "after all that");
}

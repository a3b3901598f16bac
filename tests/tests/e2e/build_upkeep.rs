//! The cache of builds in the garbage collection, and pruned while builds go on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use skep_testkit::{Engine, Image, until};

use super::engine;
use super::upkeep::own_words;

fn project(engine: &Engine, name: &str, dockerfile: &str) -> PathBuf {
    let folder = engine.scratch().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    folder
}

/// Bytes of the cache that no image has.
fn cached(engine: &Engine) -> i64 {
    let usage = engine.api().call("GET", "/system/df", None);
    let records = usage["BuildCache"].as_array().cloned().unwrap_or_default();
    records.iter().filter(|one| one["Shared"] != true).map(|one| one["Size"].as_i64().unwrap()).sum()
}

#[test]
fn the_cache_is_held_below_its_limit() {
    if !own_words("the_cache_is_held_below_its_limit") {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = r#"{"builder": {"gc": {"policy": [{"all": true, "maxUsedSpace": "3MB"}]}}}"#;
    std::fs::write(file.path(), text).unwrap();
    let config = format!("--config-file={}", file.path().display());
    let engine = Engine::builder().argument(config).argument("--gc-interval=1s").start();
    engine.load(Image::busybox());
    let text = "FROM busybox\nRUN head -c 2000000 /dev/urandom > /one\nRUN head -c 2000000 /dev/urandom > /two\n\
                RUN head -c 2000000 /dev/urandom > /three\n";
    let folder = project(&engine, "own", text).display().to_string();
    engine.run(["build", "--output=type=cacheonly", &folder]).success();
    until("the cache has shrunk", || cached(&engine) <= 3_000_000);
    assert!(cached(&engine) >= 1_900_000, "no more went than had to");
    engine.run(["build", "-t", "kept", &folder]).success();
    engine.run(["run", "--rm", "kept", "ls", "/one", "/two", "/three"]).success();
}

#[test]
fn a_full_disk_takes_the_cache_before_images() {
    if !own_words("a_full_disk_takes_the_cache_before_images") {
        return;
    }
    let engine = Engine::builder()
        .disk("120m")
        .argument("--gc-free-space-low=80MB")
        .argument("--gc-free-space-high=90MB")
        .argument("--gc-interval=1s")
        .start();
    engine.load(Image::busybox());
    let text = "FROM busybox AS one\nRUN head -c 20000000 /dev/urandom > /one\nFROM one\nRUN head -c 30000000 /dev/urandom > /two\n";
    let folder = project(&engine, "own", text).display().to_string();
    engine.run(["build", "--output=type=cacheonly", &folder]).success();
    until("the cache went", || cached(&engine) <= 20_000_000);
    engine.run(["image", "inspect", "busybox"]).success();
}

#[test]
fn what_a_running_build_uses_is_not_pruned() {
    let engine = engine();
    let text = "FROM busybox AS one\nRUN --mount=type=cache,target=/c echo x >> /c/log; head -c 100000 /dev/zero > /one\n\
                FROM busybox AS two\nRUN --mount=type=cache,target=/c sleep 0.3; echo y >> /c/log; cp /c/log /two\n\
                FROM one\nCOPY --from=two /two /\nRUN --mount=type=cache,target=/c echo z >> /c/log && sleep 0.2 && grep z /c/log\n\
                COPY . /all\n";
    let folder = project(&engine, "own", text).display().to_string();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                engine.run(["builder", "prune", "-af"]).success();
            }
        });
        let builds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..6 {
                engine.run(["build", "-t", "made", &folder]).success();
                engine.run(["run", "--rm", "made", "ls", "/one", "/two", "/all/Dockerfile"]).success();
            }
        }));
        over.store(true, Ordering::Relaxed);
        builds.unwrap();
    });
}

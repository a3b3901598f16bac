//! A build that is broken off (the daemon killed or ended, the client gone, the disk full) leaves nothing behind, and a cache that can
//! be trusted.

use std::path::{Path, PathBuf};
use std::process::Child;

use skep_testkit::{Engine, Image, until};

use super::engine;
use super::upkeep::own_words;

/// Seconds that a step sleeps: how its process is recognised.
fn mark() -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{}{number:03}", 100_000 + std::process::id())
}

fn project(engine: &Engine, dockerfile: &str) -> PathBuf {
    let folder = engine.scratch().join("project");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("Dockerfile"), dockerfile).unwrap();
    folder
}

/// Whether a process sleeps for so long.
fn sleeps(mark: &str) -> bool {
    let wanted = format!("sleep\0{mark}\0");
    let lines = std::fs::read_dir("/proc").unwrap().flatten();
    let mut lines = lines.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.any(|line| line == wanted.as_bytes())
}

fn begin(engine: &Engine, folder: &Path, mark: &str) -> Child {
    let client = engine.command(["build", "-t", "made", "--progress=plain", &folder.display().to_string()]).spawn();
    until("the step sleeps", || sleeps(mark));
    client
}

fn assert_nothing_runs(engine: &Engine, mark: &str) {
    until("the step has ended", || !sleeps(mark));
    let bundles = engine.exec_root().join("builds");
    until("its bundle is gone", || std::fs::read_dir(&bundles).map_or(true, |mut entries| entries.next().is_none()));
    let staging = engine.data_root().join("staging");
    until("what it wrote is gone", || std::fs::read_dir(&staging).map_or(true, |mut entries| entries.next().is_none()));
}

/// What an image consists of, without times.
fn contents(engine: &Engine, image: &str) -> String {
    let command = "find / -xdev -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o -print | sort | while read f; do \
                   stat -c '%n %A %u %g' \"$f\"; done; cat /one /two /three /kept 2>&1; wc -c < /big";
    engine.run(["run", "--rm", "--hostname", "x", image, "sh", "-c", command]).success().stdout
}

/// Steps before, beside and after the one that sleeps when `when` is built.
fn steps(at: usize, mark: &str) -> String {
    let mut text =
        "FROM busybox AS side\nRUN head -c 3000000 /dev/zero > /big && echo side > /kept\nFROM busybox\n".to_owned();
    for (number, name) in ["one", "two", "three"].iter().enumerate() {
        // The sleep is no part of what the step makes.
        let sleep = if number == at { format!("test -e /m/fast || sleep {mark}; ") } else { String::new() };
        text += &format!(
            "RUN --mount=type=cache,id=gate,target=/m {sleep}head -c 100000 /dev/zero | tr '\\0' '{number}' > /{name}\n"
        );
    }
    text + "COPY --from=side /big /kept /\n"
}

#[test]
fn killed_while_building() {
    if !own_words("killed_while_building") {
        return;
    }
    let mut engine = engine();
    for at in [0, 1, 2] {
        let mark = mark();
        let folder = project(&engine, &steps(at, &mark));
        let mut client = begin(&engine, &folder, &mark);
        engine.kill();
        assert!(!client.wait().unwrap().success());
        until("the step has ended with the daemon", || !sleeps(&mark));
        engine.launch();
        assert_nothing_runs(&engine, &mark);
        engine.run(["system", "check"]).success();
        let path = folder.display().to_string();
        let open = project(&engine, "FROM busybox\nRUN --mount=type=cache,id=gate,target=/m touch /m/fast\n");
        engine.run(["build", "--no-cache", &open.display().to_string()]).success();
        project(&engine, &steps(at, &mark));
        engine.run(["build", "-t", "made", &path]).success();
        engine.run(["build", "-t", "fresh", "--no-cache", &path]).success();
        assert_eq!(contents(&engine, "made"), contents(&engine, "fresh"));
        engine.run(["system", "check"]).success();
        engine.run(["builder", "prune", "-af"]).success();
    }
}

#[test]
fn killed_at_bad_moments_of_a_build() {
    let can = cfg!(debug_assertions) && std::env::var_os("SKEP_BIN_DIR").is_none();
    if !can || !own_words("killed_at_bad_moments_of_a_build") {
        return;
    }
    let mut engine = engine();
    let text = steps(9, "");
    let folder = project(&engine, &text).display().to_string();
    engine.run(["build", "-t", "fresh", "--no-cache", &folder]).success();
    let wanted = contents(&engine, "fresh");
    engine.run(["rmi", "fresh"]).success();
    let mut crashes = 0;
    for place in [
        "layers-staged",
        "layers-renamed",
        "db-commit",
        "db-committed",
        "db-commit:2",
        "db-committed:2",
        "image-blobs",
        "image-stored",
        "discarded",
        "trash",
    ] {
        engine.run(["builder", "prune", "-af"]).success();
        engine.crash_at(place);
        let code = engine.run(["build", "-t", "made", &folder]).code;
        crashes += usize::from(engine.recover());
        assert!(
            code != 0 || engine.run(["image", "inspect", "made"]).code == 0,
            "{place}: what was acknowledged is gone"
        );
        let check = engine.run(["system", "check"]);
        assert_eq!(check.code, 0, "{place}: {check}");
        engine.run(["build", "-t", "made", &folder]).success();
        assert_eq!(contents(&engine, "made"), wanted, "{place}");
        engine.run(["rmi", "made"]).success();
    }
    assert!(crashes > 2, "only {crashes} crashes");
}

#[test]
fn a_client_that_goes_away_ends_its_build() {
    let engine = engine();
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::KILL] {
        let mark = mark();
        let folder = project(&engine, &format!("FROM busybox\nRUN trap '' INT TERM; sleep {mark}\n"));
        let mut client = begin(&engine, &folder, &mark);
        let pid = rustix::process::Pid::from_child(&client);
        rustix::process::kill_process(pid, signal).unwrap();
        assert!(!client.wait().unwrap().success());
        until("the step has ended", || !sleeps(&mark));
        if own_words("a_client_that_goes_away_ends_its_build") {
            assert_nothing_runs(&engine, &mark);
        }
    }
}

#[test]
fn a_daemon_that_ends_takes_its_builds_along() {
    if !own_words("a_daemon_that_ends_takes_its_builds_along") {
        return;
    }
    let mut engine = engine();
    let mark = mark();
    let folder = project(&engine, &format!("FROM busybox\nRUN echo x > /kept\nRUN sleep {mark}\n"));
    let mut client = begin(&engine, &folder, &mark);
    engine.stop();
    assert!(!client.wait().unwrap().success());
    assert_nothing_runs(&engine, &mark);
    engine.launch();
    engine.run(["system", "check"]).success();
    project(&engine, "FROM busybox\nRUN echo x > /kept\n");
    engine.run(["build", "-t", "made", &folder.display().to_string()]).success().stderr_has("CACHED");
}

#[test]
fn a_full_disk_in_the_middle_of_a_build() {
    if !own_words("a_full_disk_in_the_middle_of_a_build") {
        return;
    }
    const FULL: &str = "no space left on device";
    let engine = Engine::builder().disk("48m").argument("--gc=false").start();
    engine.load(Image::busybox());
    let build = |text: &str| {
        let folder = project(&engine, text).display().to_string();
        engine.run(["build", "-t", "made", "--progress=plain", &folder])
    };
    build("FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=60\n")
        .code_is(1)
        .stderr_has("No space left on device");
    build("FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=25\nRUN dd if=/big of=/big2 bs=1M\n")
        .code_is(1)
        .stderr_has("No space left on device");
    engine.run(["builder", "prune", "-af"]).success();
    std::fs::write(engine.scratch().join("project/large"), vec![7; 60_000_000]).unwrap();
    let outcome = build("FROM busybox\nCOPY large /\n").code_is(1);
    assert!(outcome.stderr.to_lowercase().contains(FULL), "{outcome}");
    std::fs::write(engine.scratch().join("project/large"), vec![7; 14_000_000]).unwrap();
    let outcome = build("FROM busybox\nCOPY large /\nCOPY large /again\nCOPY large /more\n").code_is(1);
    assert!(outcome.stderr.to_lowercase().contains(FULL), "{outcome}");
    std::fs::remove_file(engine.scratch().join("project/large")).unwrap();
    engine.run(["system", "check"]).success();
    engine.run(["builder", "prune", "-af"]).success();
    build("FROM busybox\nRUN echo fits > /kept\n").success();
    engine.run(["run", "--rm", "made", "cat", "/kept"]).success().stdout_is("fits\n");
    engine.run(["system", "check"]).success();
}

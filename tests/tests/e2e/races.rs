//! Somebody exchanges a directory and a link to the host's files, without a pause, while the engine walks over the name: copying,
//! executing, mounting. What comes out is what is in the container, and the host's files stay as they are.
//!
//! The one who exchanges is a thread of the test that has the directory open; for the kernel it is as good as a process in the
//! container, and much faster than a shell there. `SKEP_RACE_ROUNDS` sets how often each thing is done.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, openat, renameat_with};
use skep_evil::canary::Canary;
use skep_evil::tar::Tar;
use skep_testkit::{DEADLINE, Engine};

use super::{engine, sleeper};

/// What a file of the arena holds, where the host's holds something else.
const INSIDE: &str = "of the container\n";

fn rounds(usual: u64) -> u64 {
    std::env::var("SKEP_RACE_ROUNDS").map_or(usual, |text| text.parse().expect("SKEP_RACE_ROUNDS is a number"))
}

/// Exchanges `dir` and `link` of a directory until it is dropped.
struct Racer {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Racer {
    fn start(place: &Path) -> Racer {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = openat(CWD, place, flags, Mode::empty()).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let over = done.clone();
        let thread = std::thread::spawn(move || {
            let mut exchanged = 0;
            while !over.load(Ordering::Relaxed) {
                // What the engine replaces at this moment can't be exchanged.
                exchanged += u64::from(renameat_with(&place, "dir", &place, "link", RenameFlags::EXCHANGE).is_ok());
                std::thread::yield_now();
            }
            exchanged
        });
        Racer { done, thread: Some(thread) }
    }

    #[track_caller]
    fn end(mut self) {
        assert_ne!(self.stop(), 0, "nobody raced");
    }

    fn stop(&mut self) -> u64 {
        self.done.store(true, Ordering::Relaxed);
        self.thread.take().map_or(0, |thread| thread.join().unwrap())
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Shell commands that make what is raced for in `place`: the container has files of its own where the link leads on the host.
fn arena(place: &str, canary: &Canary) -> String {
    let target = canary.dir().display();
    format!(
        "set -e; mkdir -p {place}/dir/sub {target}/sub; ln -s {target} {place}/link
        for dir in {place}/dir {target}; do printf '{INSIDE}' > $dir/file; printf '{INSIDE}' > $dir/sub/script; done"
    )
}

/// Where the volume is on the host.
fn mountpoint(engine: &Engine, volume: &str) -> String {
    engine.run(["volume", "inspect", "-f", "{{.Mountpoint}}", volume]).success().word()
}

/// Whether the host's files, or a mount on them, can be seen.
#[track_caller]
fn check(canary: &Canary, after: &str) {
    canary.check(after);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&canary.dir().display().to_string()), "{after}: {mounts}");
}

/// All that the engine answers, also when it has to break off in the middle.
fn get(engine: &Engine, path: &str) -> String {
    let mut stream = UnixStream::connect(engine.socket()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Copies out of and into `path` of a container, again and again; how often both worked.
fn copy(engine: &Engine, container: &str, path: &str, rounds: u64) -> (u64, u64) {
    let archive = Tar::new().file("planted", b"evil").dir("sub").file("sub/planted", b"evil").end();
    let headers = [("Content-Type", "application/x-tar")];
    let url = |path: &str| format!("/containers/{container}/archive?path={path}");
    let (mut out, mut into) = (0, 0);
    for _ in 0..rounds {
        for path in [format!("{path}/file"), path.to_owned()] {
            let text = get(engine, &url(&path));
            assert!(!text.contains("alive") && !text.contains("#!/bin/sh"), "the host's file came out of {path}");
            out += u64::from(text.starts_with("HTTP/1.1 200") && text.contains(INSIDE));
        }
        let _ = engine.api().send("HEAD", &url(&format!("{path}/sub/script")), &[], &[]).unwrap();
        into += u64::from(engine.api().send("PUT", &url(path), &headers, &archive).unwrap().status == 200);
    }
    (out, into)
}

/// CVE-2018-15664, CVE-2026-41568, CVE-2026-42306: in the container's own file system, and in everything mounted there.
#[test]
fn copies_of_a_running_container() {
    let engine = engine();
    let canary = Canary::new(&engine.scratch().join("host"));
    let bound = engine.scratch().join("bound");
    std::fs::create_dir_all(&bound).unwrap();
    let bind = format!("{}:/bound", bound.display());
    let mounts = ["-v", "data:/data", "-v", &bind, "--tmpfs", "/tmpfs"];
    engine
        .run([&["run", "-d", "--name", "one"], &mounts[..], &["--init", "busybox", "sleep", "1000"]].concat())
        .success();
    let pid = engine.inspect("one")["State"]["Pid"].to_string();
    for place in ["/own", "/data", "/bound", "/tmpfs"] {
        engine.run(["exec", "one", "sh", "-c", &arena(place, &canary)]).success();
        let racer = Racer::start(Path::new(&format!("/proc/{pid}/root{place}")));
        let (out, into) = copy(&engine, "one", &format!("{place}/dir"), rounds(100));
        racer.end();
        assert!(out > 0 && into > 0, "{place}: {out} copies came out, {into} went in");
        check(&canary, place);
    }
    engine.run(["exec", "one", "true"]).success();
}

/// A stopped container's volumes are another container's to race in.
#[test]
fn copies_of_a_stopped_container() {
    let engine = engine();
    let canary = Canary::new(&engine.scratch().join("host"));
    engine.run(["run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", &arena("/data", &canary)]).success();
    // One with the raced directory in its volume, one with a mount on it, one with a part of the volume.
    let part = "type=volume,src=data,dst=/part,volume-subpath=dir/sub";
    engine.run(["create", "--name", "in", "-v", "data:/data", "busybox", "true"]).success();
    engine.run(["create", "--name", "on", "-v", "data:/data", "-v", "more:/data/dir", "busybox", "true"]).success();
    engine.run(["create", "--name", "part", "--mount", part, "busybox", "true"]).success();
    let racer = Racer::start(Path::new(&mountpoint(&engine, "data")));
    for (container, path) in [("in", "/data/dir"), ("on", "/data/dir"), ("part", "/part")] {
        copy(&engine, container, path, rounds(40));
        check(&canary, container);
    }
    racer.end();
    engine.run(["rm", "in", "on", "part"]).success();
}

/// CVE-2024-21626 and its kin: the working directory is looked up in the container.
#[test]
fn working_directories() {
    let engine = engine();
    let canary = Canary::new(&engine.scratch().join("host"));
    sleeper(&engine, "one");
    engine.run(["exec", "one", "sh", "-c", &arena("/own", &canary)]).success();
    let pid = engine.inspect("one")["State"]["Pid"].to_string();
    let racer = Racer::start(Path::new(&format!("/proc/{pid}/root/own")));
    let mut done = 0;
    for _ in 0..rounds(60) {
        let got = engine.run(["exec", "-w", "/own/dir/sub", "one", "sh", "-c", "cat script; touch planted"]);
        assert!(got.stdout.is_empty() || got.stdout == INSIDE, "{got}");
        done += u64::from(got.code == 0);
    }
    racer.end();
    assert_ne!(done, 0, "no process came to run");
    check(&canary, "exec -w");
}

/// A part of a volume, and a mount on a directory of a volume (CVE-2021-30465), while containers start.
#[test]
fn mounts_of_containers_that_start() {
    let engine = engine();
    let canary = Canary::new(&engine.scratch().join("host"));
    engine.run(["run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", &arena("/data", &canary)]).success();
    let racer = Racer::start(Path::new(&mountpoint(&engine, "data")));
    let script = "cat /m/script; cat /data/dir/sub/script; touch /m/planted /data/dir/planted";
    let part = ["--mount", "type=volume,src=data,dst=/m,volume-subpath=dir/sub"];
    let nested = ["-v", "data:/data", "-v", "more:/data/dir/sub"];
    for mounts in [&part[..], &nested[..]] {
        let mut seen = 0;
        for _ in 0..rounds(30) {
            let got = engine.run([&["run", "--rm"], mounts, &["busybox", "sh", "-c", script]].concat());
            assert!(got.stdout.lines().all(|line| format!("{line}\n") == INSIDE), "{got}");
            seen += got.stdout.lines().count();
        }
        assert_ne!(seen, 0, "no container came to run");
        check(&canary, mounts[1]);
    }
    racer.end();
}

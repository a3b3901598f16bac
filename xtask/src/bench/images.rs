//! Images from and to a registry on loopback, in and out of archives; and the floor under them: the same bytes decompressed, hashed and
//! written, with nothing else.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::content::{Registry, Sample, Samples};
use super::engines::{Engine, Engines};
use super::report::{Report, Unit};
use super::{Arguments, millis, words};

const PULL_TALL: &str = "pull 10 layers, 300 MB";
const PULL_WIDE: &str = "pull 1 layer, 1 GB";
const PULL_MANY: &str = "pull 50 small images";
const PUSH: &str = "push 10 layers, 300 MB";
const ARCHIVE: &str = "save and load, 300 MB";
const COMMIT: &str = "commit 64 MB";
const MEMORY: &str = "daemon peak memory, pull 1 GB";
/// These take seconds each: a fifth of the rounds is enough.
const FEWER: usize = 5;

/// Whether any of this is wanted.
pub(super) fn wanted(only: &str) -> bool {
    [PULL_TALL, PULL_WIDE, PULL_MANY, PUSH, ARCHIVE, COMMIT, MEMORY].iter().any(|case| case.contains(only))
}

pub(super) fn measure(arguments: &Arguments, engines: &Engines, report: &mut Report) -> Result<()> {
    let samples = Samples::prepare(&crate::paths::target())?;
    let registry = Registry::start(&samples.store())?;
    let rounds = (arguments.rounds / FEWER).max(1);
    let wanted = |case: &str| case.contains(&arguments.only);
    for (case, set) in [
        (PULL_TALL, std::slice::from_ref(&samples.tall)),
        (PULL_WIDE, std::slice::from_ref(&samples.wide)),
        (PULL_MANY, &samples.small[..]),
    ] {
        for _ in 0..if wanted(case) { rounds } else { 0 } {
            pulls(case, set, engines, &registry, report)?;
            report.add(case, "floor", Unit::Milliseconds, millis(floor(&samples, set)?));
        }
    }
    for round in 0..rounds {
        for engine in &engines.all {
            if wanted(PUSH) {
                report.add(
                    PUSH,
                    engine.name,
                    Unit::Milliseconds,
                    millis(push(engine, &registry, &samples.tall, round)?),
                );
            }
            if wanted(ARCHIVE) {
                let took = archive(engine, &registry, &samples.tall)?;
                report.add(ARCHIVE, engine.name, Unit::Milliseconds, millis(took));
            }
            if wanted(COMMIT) {
                report.add(COMMIT, engine.name, Unit::Milliseconds, millis(commit(engine)?));
            }
        }
    }
    Ok(())
}

/// One round of pulls by each engine, which forgets the images again.
fn pulls(case: &str, set: &[Sample], engines: &Engines, registry: &Registry, report: &mut Report) -> Result<()> {
    for engine in &engines.all {
        engine.forget_peak()?;
        let started = Instant::now();
        for sample in set {
            pull(engine, &registry.name(sample))?;
        }
        report.add(case, engine.name, Unit::Milliseconds, millis(started.elapsed()));
        if case == PULL_WIDE
            && let Some(peak) = engine.peak()?
        {
            report.add(MEMORY, engine.name, Unit::Kibibytes, peak);
        }
        for sample in set {
            engine.run(&words(&format!("rmi -f {}", registry.name(sample))))?;
        }
    }
    let folder = tempfile::Builder::new().prefix("skep-bench-skopeo-").tempdir()?;
    let started = Instant::now();
    for (number, sample) in set.iter().enumerate() {
        let (from, to) =
            (format!("docker://{}", registry.name(sample)), format!("dir:{}/{number}", folder.path().display()));
        let options = ["copy", "-q", "--insecure-policy", "--src-tls-verify=false"];
        let output = Command::new("skopeo").args(options).args([&from, &to]).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    // It stores the compressed layers and unpacks nothing.
    report.add(case, "skopeo", Unit::Milliseconds, millis(started.elapsed()));
    Ok(())
}

fn pull(engine: &Engine, name: &str) -> Result<()> {
    let insecure = if engine.name == "podman" { " --tls-verify=false" } else { "" };
    engine.run(&words(&format!("pull -q{insecure} {name}")))
}

/// The time of a push into a registry that has nothing.
fn push(engine: &Engine, source: &Registry, sample: &Sample, round: usize) -> Result<Duration> {
    let folder = tempfile::Builder::new().prefix("skep-bench-registry-").tempdir()?;
    let empty = Registry::start(folder.path())?;
    let (from, to) = (source.name(sample), format!("{}/pushed/{round}:1", empty.address));
    pull(engine, &from)?;
    engine.run(&words(&format!("tag {from} {to}")))?;
    let insecure = if engine.name == "podman" { " --tls-verify=false" } else { "" };
    let started = Instant::now();
    engine.run(&words(&format!("push -q{insecure} {to}")))?;
    let took = started.elapsed();
    engine.run(&words(&format!("rmi -f {to} {from}")))?;
    Ok(took)
}

fn archive(engine: &Engine, registry: &Registry, sample: &Sample) -> Result<Duration> {
    let name = registry.name(sample);
    pull(engine, &name)?;
    let folder = tempfile::Builder::new().prefix("skep-bench-archive-").tempdir()?;
    let file = folder.path().join("image.tar").display().to_string();
    let started = Instant::now();
    engine.run(&words(&format!("save -o {file} {name}")))?;
    let saved = started.elapsed();
    engine.run(&words(&format!("rmi -f {name}")))?;
    let started = Instant::now();
    engine.run(&words(&format!("load -q -i {file}")))?;
    let loaded = started.elapsed();
    engine.run(&words(&format!("rmi -f {name}")))?;
    Ok(saved + loaded)
}

fn commit(engine: &Engine) -> Result<Duration> {
    let script = "i=0; while [ $i -lt 64 ]; do cat /bin/busybox > /file$i; i=$((i+1)); done";
    let run = ["run", "--name", "bench-commit", "--network", "none", "busybox", "sh", "-c", script];
    engine.run(&run.map(str::to_owned))?;
    let started = Instant::now();
    engine.run(&words("commit bench-commit committed:1"))?;
    let took = started.elapsed();
    engine.run(&words("rm -f bench-commit"))?;
    engine.run(&words("rmi -f committed:1"))?;
    Ok(took)
}

/// Decompresses, hashes and writes the layers of images, two at a time, and flushes the disk once: what no pull can do without.
fn floor(samples: &Samples, set: &[Sample]) -> Result<Duration> {
    let folder = tempfile::Builder::new().prefix("skep-bench-floor-").tempdir()?;
    let program = crate::paths::release("examples").join("floor");
    let layers = set.iter().flat_map(|sample| samples.layers(sample));
    let mut command = Command::new(&program);
    command.arg(folder.path()).args(layers).stdin(Stdio::null());
    let started = Instant::now();
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} failed");
    Ok(started.elapsed())
}

/// Builds the program behind [`floor`].
pub(super) fn build(cargo: &Path) -> Result<()> {
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--package", "skep-store", "--example", "floor"]);
    ensure!(command.current_dir(crate::paths::top()).status()?.success(), "the release build of the floor failed");
    Ok(())
}

impl Engine {
    /// Begins to measure the daemon's peak memory anew.
    fn forget_peak(&self) -> Result<()> {
        match self.daemon_id() {
            Some(id) => fs::write(format!("/proc/{id}/clear_refs"), "5").context("resetting the peak of memory"),
            None => Ok(()),
        }
    }

    /// The most memory that the daemon had since, in KiB; nothing for an engine without a daemon.
    fn peak(&self) -> Result<Option<f64>> {
        let Some(id) = self.daemon_id() else { return Ok(None) };
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        Ok(line.and_then(|text| text.trim().trim_end_matches("kB").trim().parse().ok()))
    }
}

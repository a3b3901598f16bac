//! `cargo xtask bench`: skep beside Docker, Podman and runc, in one run, alternating, so that all meet the same machine.
//! Reports what it measured; nothing here fails because of a figure.

mod builds;
mod content;
mod engines;
mod images;
mod net;
mod report;
mod runtime;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;

use engines::{Engine, Engines};
use report::{Report, Unit};

#[derive(Args)]
pub(crate) struct Arguments {
    /// How often each case is measured, per engine
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Leave engines out: `skep`, `docker`, `podman`, `buildah`
    #[arg(long)]
    without: Vec<String>,
}

/// A command that is measured from start to end.
struct Case {
    name: &'static str,
    command: fn(&Engine) -> Vec<String>,
    /// Peers that can't do it the same way.
    not: &'static [&'static str],
}

const CASES: [Case; 6] = [
    Case { name: "version", command: |_| words("version"), not: &[] },
    Case { name: "run --rm (bridge)", command: |_| words("run --rm busybox true"), not: &[] },
    Case { name: "run --rm --network none", command: |_| words("run --rm --network none busybox true"), not: &[] },
    Case { name: "run --rm --network host", command: |_| words("run --rm --network host busybox true"), not: &[] },
    Case {
        name: "run --rm -p",
        command: |engine| words(&format!("run --rm -p {}:80 busybox true", engine.port)),
        not: &[],
    },
    Case { name: "exec", command: |_| words("exec bench-idle true"), not: &[] },
];

const LIFE: &str = "create, start, wait, remove over the API";
const MEMORY: &str = "idle memory, 50 containers";

/// Containers that are started at once for the memory figure.
const MANY: usize = 50;
const CLIENTS: usize = 8;

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    build()?;
    let mut report = Report::new();
    runtime::measure(arguments, &mut report)?;
    if on_one_host_wanted(&arguments.only) {
        on_one_host(arguments, &mut report)?;
    }
    if net::wanted(&arguments.only) {
        net::measure(arguments, &mut report)?;
    }
    report.write(&crate::paths::target().join("bench"))?;
    Ok(ExitCode::SUCCESS)
}

fn on_one_host_wanted(only: &str) -> bool {
    let cases = CASES.iter().map(|case| case.name).chain([LIFE, MEMORY]);
    cases.into_iter().any(|case| case.contains(only)) || images::wanted(only) || builds::wanted(only)
}

/// What is measured with all engines on this machine's own network.
fn on_one_host(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let engines = Engines::start(&arguments.without)?;
    for engine in &engines.all {
        engine.run(&words("run -d --name bench-idle busybox sleep 3600"))?;
    }
    for case in CASES.iter().filter(|case| case.name.contains(&arguments.only)) {
        for round in 0..=arguments.rounds {
            for engine in engines.all.iter().filter(|engine| !case.not.contains(&engine.name)) {
                let command = (case.command)(engine);
                let started = Instant::now();
                engine.run(&command)?;
                // The first round warms caches up.
                if round > 0 {
                    report.add(case.name, engine.name, Unit::Milliseconds, millis(started.elapsed()));
                }
            }
        }
    }
    for engine in &engines.all {
        engine.run(&words("rm -f bench-idle"))?;
    }
    if LIFE.contains(&arguments.only) {
        for round in 0..=arguments.rounds {
            for engine in engines.all.iter().filter(|engine| engine.socket.is_some()) {
                let took = engine.life_over_api()?;
                if round > 0 {
                    report.add(LIFE, engine.name, Unit::Milliseconds, millis(took));
                }
            }
        }
    }
    if images::wanted(&arguments.only) {
        images::measure(arguments, &engines, report)?;
    }
    if builds::wanted(&arguments.only) {
        builds::measure(arguments, &engines, report)?;
    }
    if MEMORY.contains(&arguments.only) {
        for engine in &engines.all {
            many(engine, report)?;
        }
    }
    Ok(())
}

/// Builds what is measured.
pub(crate) fn build() -> Result<()> {
    if std::env::var_os("SKEP_BIN_DIR").is_some() {
        return Ok(());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The runtime is there once per container: without position independence it takes less memory. Cargo has no setting for
    // one package, so it is said here.
    let runtime = ["--package", "skep-runtime", "--bin", "skep-runtime", "--", "-C", "relocation-model=static"];
    for arguments in [vec!["build", "--release", "--package", "skep"], [&["rustc", "--release"][..], &runtime].concat()]
    {
        let mut command = Command::new(&cargo);
        command.args(arguments).current_dir(crate::paths::top());
        ensure!(command.status()?.success(), "the release build failed");
    }
    images::build(cargo.as_ref())
}

/// Starts many containers from several clients; measures the rate, and what the engine's own processes use for each.
fn many(engine: &Engine, report: &mut Report) -> Result<()> {
    let idle = engine.memory()?;
    report.add("daemon idle memory", engine.name, Unit::Kibibytes, idle);
    let started = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || -> Result<()> {
                    for number in (client..MANY).step_by(CLIENTS) {
                        engine.run(&words(&format!("run -d --name bench-{number} busybox sleep 3600")))?;
                    }
                    Ok(())
                })
            })
            .collect();
        clients
            .into_iter()
            .try_for_each(|client| client.join().unwrap_or_else(|_| anyhow::bail!("a client broke down")))
    })?;
    report.add("50 containers by 8 clients", engine.name, Unit::Milliseconds, millis(started.elapsed()));
    let busy = engine.memory()?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    report.add("engine memory per container", engine.name, Unit::Kibibytes, (busy - idle) / MANY as f64);
    let names: Vec<String> = (0..MANY).map(|number| format!("bench-{number}")).collect();
    engine.run(&[words("rm -f"), names].concat())
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

//! Fuzzing: builds a target with the compiler's own coverage counters and runs it for a while. cargo-fuzz works on the same folder, but
//! needn't be installed.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

/// What each target needs built besides skep-fs; the slow ones last.
const TARGETS: [(&str, &str); 14] = [
    ("tar_apply", ""),
    ("tar_diff", ""),
    ("reference", ""),
    ("policy", ""),
    ("dns", ""),
    ("dockerfile", ""),
    ("dockerignore", ""),
    ("credentials", ""),
    ("manifest", "registry"),
    ("challenge", "registry"),
    ("hosts", "registry"),
    ("config", "engine"),
    ("change", "engine"),
    ("load", "engine"),
];

const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// What cargo-fuzz passes to the compiler, without a sanitizer: safe code has little for one to find. `fuzz/rustc` says for which crates.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// One target; all, one after the other, if none is named
    target: Option<String>,
    /// How long each runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let dir = crate::paths::top().join("fuzz");
    let chosen: Vec<_> =
        TARGETS.iter().filter(|(name, _)| arguments.target.as_deref().is_none_or(|wanted| wanted == *name)).collect();
    if chosen.is_empty() {
        bail!("no such target; there are: {}", TARGETS.map(|(name, _)| name).join(", "));
    }
    // All at once shares what they have in common; a single one needn't wait for what the others need.
    match &arguments.target {
        Some(target) => build(&dir, chosen[0].1, &["--bin", "seeds", "--bin", target])?,
        None => build(&dir, "registry,engine", &["--bins"])?,
    }
    let program = |name: &str| dir.join("target").join(TRIPLE).join("release").join(name);
    let corpus = dir.join("corpus");
    check(Command::new(program("seeds")).arg(&corpus))?;
    for (name, _) in chosen {
        println!("{name}: {} seconds", arguments.seconds);
        let artifacts = dir.join("artifacts").join(name);
        std::fs::create_dir_all(&artifacts).context("make the folder for findings")?;
        std::fs::create_dir_all(corpus.join(name)).context("make the folder for inputs")?;
        let mut command = Command::new(program(name));
        command.arg(format!("-max_total_time={}", arguments.seconds)).args(["-rss_limit_mb=1024", "-timeout=20"]);
        command
            .args(["-print_final_stats=1", "-verbosity=0"])
            .arg(format!("-artifact_prefix={}/", artifacts.display()));
        check(command.arg(corpus.join(name)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn build(dir: &Path, features: &str, binaries: &[&str]) -> Result<()> {
    let mut command = Command::new("cargo");
    command.current_dir(dir).env("RUSTC_BOOTSTRAP", "1");
    // An empty RUSTFLAGS is in place of the workspace's own: a fuzzer isn't linked statically.
    command.env("RUSTC_WRAPPER", dir.join("rustc")).env("SKEP_FUZZ_FLAGS", FLAGS).env("RUSTFLAGS", "");
    command.args(["build", "--quiet", "--release", "--target", TRIPLE, "--features", features]).args(binaries);
    check(&mut command)
}

fn check(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("run {}", command.get_program().display()))?;
    ensure!(status.success(), "{} failed: {status}", command.get_program().display());
    Ok(())
}

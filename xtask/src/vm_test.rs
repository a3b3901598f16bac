//! The tests whose subject differs between cgroup versions, in the virtual machine: test programs are static, so they are built
//! here and run there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};

use crate::vm;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose names contain this
    filter: Option<String>,
}

/// Packages whose tests run there: all targets, in the order of their names.
const PACKAGES: [&str; 1] = ["skep-runtime"];

/// What building the tests of a package has made.
#[derive(Default)]
struct Built {
    /// Name and program of each test target.
    tests: BTreeMap<String, PathBuf>,
    /// The programs that tests start, by the path that was compiled into them.
    programs: Vec<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let mut files = Vec::new();
    let mut commands = String::from("status=0\n");
    for package in PACKAGES {
        let built = build(package)?;
        for (target, program) in built.tests {
            let inside = PathBuf::from("/tests").join(&target);
            let line =
                format!("echo \"--- {package}: {target}\"\n{} --nocapture {filter} || status=1\n", inside.display());
            commands.push_str(&line);
            files.push((program, inside));
        }
        files.extend(built.programs.into_iter().map(|program| (program.clone(), program)));
    }
    commands.push_str("exit $status");
    vm::run(&vm::Arguments {
        mem: 1024,
        cpus: 2,
        timeout: 900,
        size: 1024,
        files,
        tools: Vec::new(),
        env: vec!["RUST_BACKTRACE=0".to_owned()],
        console: None,
        commands: vec![commands],
    })
}

fn build(package: &str) -> Result<Built> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--no-run", "--quiet", "--package", package, "--message-format", "json"])
        .current_dir(crate::paths::top())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the tests of {package} could not be built");
    let mut built = Built::default();
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("a message of cargo")?;
        let Some(program) = message["executable"].as_str().map(PathBuf::from) else { continue };
        let target = &message["target"];
        let is_bin = target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"));
        match (message["profile"]["test"].as_bool(), target["name"].as_str()) {
            (Some(true), Some(name)) if !is_bin => drop(built.tests.insert(name.to_owned(), program)),
            (Some(false), _) if is_bin => built.programs.push(program),
            _ => {}
        }
    }
    ensure!(!built.tests.is_empty(), "{package} has no tests");
    Ok(built)
}

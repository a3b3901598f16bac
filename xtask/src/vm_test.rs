//! The tests whose subject differs between cgroup versions, in the virtual machine: test programs are static, so they are built
//! here and run there.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::vm;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose names contain this
    filter: Option<String>,
}

/// Packages with the kind of target and the name of it; the unit tests are the target named like the library.
const TESTS: [(&str, &str); 2] = [("skep-runtime", "skep_runtime"), ("skep-runtime", "cgroup")];

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut files = Vec::new();
    let mut commands = String::from("status=0\n");
    for (package, target) in TESTS {
        let program = build(package, target)?;
        let inside = PathBuf::from("/tests").join(target);
        let filter = arguments.filter.as_deref().unwrap_or_default();
        commands.push_str(&format!("echo \"--- {package}: {target}\"\n{} {filter} || status=1\n", inside.display()));
        files.push((program, inside));
    }
    commands.push_str("exit $status");
    vm::run(&vm::Arguments {
        mem: 1024,
        cpus: 2,
        timeout: 900,
        size: 512,
        files,
        tools: Vec::new(),
        env: Vec::new(),
        console: None,
        commands: vec![commands],
    })
}

/// Builds the tests of a package and returns the program of one target.
fn build(package: &str, target: &str) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["test", "--no-run", "--quiet", "--package", package, "--message-format", "json"])
        .current_dir(crate::paths::top())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the tests of {package} could not be built");
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("a message of cargo")?;
        let is_test = message["profile"]["test"].as_bool() == Some(true) && message["target"]["name"] == target;
        let is_program =
            message["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().all(|kind| kind != "bin"));
        if let (true, true, Some(program)) = (is_test, is_program, message["executable"].as_str()) {
            return Ok(Path::new(program).to_owned());
        }
    }
    bail!("{package} has no tests named {target}")
}

//! All checks, one after the other, with counts at the end.
//!
//! A test that can't run on a machine prints a line that begins with `SKIPPED`; those are counted and shown, as they are not
//! passed.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::peers::Peers;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leaves out the tests in the virtual machine
    #[arg(long)]
    without_vm: bool,
}

/// What a step found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
    skipped: Vec<String>,
}

/// Names and arguments of the steps.
const STEPS: [(&str, &[&str]); 5] = [
    ("crate edges", &["xtask", "check-edges"]),
    ("format", &["fmt", "--all", "--check"]),
    ("lints", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
    (TESTS, &["test", "--workspace", "--no-fail-fast", "--quiet", "--", "--nocapture"]),
    (IN_VM, &["xtask", "vm-test"]),
];
const TESTS: &str = "tests";
const IN_VM: &str = "tests in the virtual machine (cgroup v2)";

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut total = Counts::default();
    let mut failed_steps = Vec::new();
    for (name, step) in STEPS {
        if arguments.without_vm && name == IN_VM {
            total.skipped.push(format!("{name}: not wanted"));
            continue;
        }
        println!("==> {name}");
        if name == TESTS {
            // The tests that want them say so when they are not there.
            if let Err(error) = Peers::fetch(&crate::paths::target()) {
                println!("no peers: {error:#}");
            }
        }
        let (counts, success) = run_step(step)?;
        if !success {
            failed_steps.push(name);
        }
        total.passed += counts.passed;
        total.failed += counts.failed;
        total.ignored += counts.ignored;
        total.skipped.extend(counts.skipped);
    }
    for line in &total.skipped {
        println!("skipped: {line}");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed,
        total.failed,
        total.ignored + total.skipped.len() as u64
    );
    if failed_steps.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("FAILED: {}", failed_steps.join(", "));
    Ok(ExitCode::FAILURE)
}

fn run_step(arguments: &[&str]) -> Result<(Counts, bool)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Both outputs through one pipe, so that their lines stay in order.
    let (reader, writer) = std::io::pipe()?;
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(crate::paths::top());
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("start cargo")?;
    drop(command); // with the writing ends in it
    let mut counts = Counts::default();
    counts.read(reader)?;
    Ok((counts, child.wait()?.success()))
}

impl Counts {
    /// Passes the output of a step on, and counts what it says.
    fn read(&mut self, output: impl Read) -> Result<()> {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line);
            print!("{text}");
            self.line(text.trim());
            line.clear();
        }
        Ok(())
    }

    fn line(&mut self, line: &str) {
        if let Some(at) = line.find("SKIPPED ") {
            self.skipped.push(line[at + "SKIPPED ".len()..].to_owned());
        } else if let Some(result) = line.strip_prefix("test result: ") {
            let count = |what: &str| -> u64 {
                let words: Vec<&str> = result.split([' ', ';']).collect();
                words
                    .iter()
                    .position(|word| *word == what)
                    .and_then(|at| words.get(at.wrapping_sub(1))?.parse().ok())
                    .unwrap_or(0)
            };
            self.passed += count("passed");
            self.failed += count("failed");
            self.ignored += count("ignored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_test_harness() {
        let mut counts = Counts::default();
        let text = "test a ... ok\ntest result: FAILED. 61 passed; 2 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.61s\n\
                    .SKIPPED thing: no reason\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured\n";
        // Line by line: printed, they would be counted again by the run that this test is part of.
        text.lines().for_each(|line| counts.line(line));
        let expected = Counts { passed: 62, failed: 2, ignored: 3, skipped: vec!["thing: no reason".to_owned()] };
        assert_eq!(counts, expected);
    }
}

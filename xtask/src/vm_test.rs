//! The tests whose subject differs between cgroup versions, and some of the scenarios with the whole engine, in the virtual machine:
//! all programs are static, so they are built here and run there.

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

/// Packages whose tests run there: all targets, in the order of their names, or the tests of some names.
const PACKAGES: [(&str, &str); 2] = [("skep-runtime", ""), ("skep-net", "parents:: rates:: lifecycle::networks_may")];

/// The package with the scenarios, and its test target.
const SCENARIOS: (&str, &str) = ("skep-tests", "e2e");

/// The scenarios that run there: whole modules, or single ones. More would be the same on any machine, or take too long.
const CHOSEN: [&str; 9] = [
    "basics::",
    "limits::limits_are_in_the_cgroup",
    "limits::memory_is_limited_and_its_end_is_told",
    "limits::too_many_processes",
    "limits::use_is_shown",
    "survival::containers_outlive_a_killed_daemon",
    "userns::everything_a_container_is_used_for_works",
    "userns::mounts_of_steps_belong_to_the_ids_they_name",
    "userns::networks_belong_to_the_namespace",
];

/// The programs under test, each from the package of its name.
const ENGINE: [&str; 2] = ["skep", "skep-runtime"];

/// Where they are in the machine.
const ENGINE_DIR: &str = "/engine";

/// What the machine runs.
#[derive(Default)]
struct Plan {
    files: Vec<(PathBuf, PathBuf)>,
    commands: String,
}

/// What cargo has made.
#[derive(Default)]
struct Built {
    /// Name and program of each test target.
    tests: BTreeMap<String, PathBuf>,
    /// The programs that tests start, by the path that was compiled into them.
    programs: Vec<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let mut plan = Plan::default();
    for (package, names) in PACKAGES {
        let built = build_tests(package)?;
        for (target, program) in built.tests {
            plan.test(package, &target, program, if filter.is_empty() { names } else { filter });
        }
        plan.files.extend(built.programs.into_iter().map(|program| (program.clone(), program)));
    }
    plan.scenarios(filter)?;
    vm::run(&vm::Arguments {
        mem: 2048,
        cpus: 2,
        timeout: 900,
        size: 1024,
        files: plan.files,
        tools: ["ip", "nft", "runc", "sysctl", "tc"].map(str::to_owned).to_vec(),
        env: vec!["RUST_BACKTRACE=0".to_owned(), format!("SKEP_BIN_DIR={ENGINE_DIR}")],
        console: None,
        commands: vec![format!("status=0\n{}exit $status", plan.commands)],
    })
}

impl Plan {
    /// Adds a test program with the names of its tests, and options.
    fn test(&mut self, package: &str, target: &str, program: PathBuf, names: &str) {
        let inside = PathBuf::from("/tests").join(target);
        let line = format!("echo \"--- {package}: {target}\"\n{} --nocapture {names} || status=1\n", inside.display());
        self.commands.push_str(&line);
        self.files.push((program, inside));
    }

    /// Adds the chosen scenarios whose names contain the filter, and the engine for them.
    fn scenarios(&mut self, filter: &str) -> Result<()> {
        let (package, target) = SCENARIOS;
        let program =
            build_tests(package)?.tests.remove(target).with_context(|| format!("{package} has no {target}"))?;
        let output = Command::new(&program).args(["--list", "--format", "terse"]).output().context("list scenarios")?;
        let list = String::from_utf8(output.stdout)?;
        let names = matching(&list, filter)?;
        if names.is_empty() {
            return Ok(());
        }
        for (name, program) in ENGINE.into_iter().zip(engine()?) {
            self.files.push((program, PathBuf::from(ENGINE_DIR).join(name)));
        }
        self.test(package, target, program, &format!("--exact {}", names.join(" ")));
        Ok(())
    }
}

/// The chosen ones of a list of tests whose names contain the filter.
fn matching<'a>(list: &'a str, filter: &str) -> Result<Vec<&'a str>> {
    let mut found = Vec::new();
    for chosen in CHOSEN {
        let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
        let names: Vec<&str> =
            names.filter(|name| *name == chosen || (chosen.ends_with("::") && name.starts_with(chosen))).collect();
        ensure!(!names.is_empty(), "there is no scenario {chosen}");
        found.extend(names.into_iter().filter(|name| name.contains(filter)));
    }
    Ok(found)
}

/// The programs under test: those that were named, as everywhere in the tests, or new ones.
fn engine() -> Result<Vec<PathBuf>> {
    if let Some(dir) = std::env::var_os("SKEP_BIN_DIR") {
        return Ok(ENGINE.iter().map(|name| PathBuf::from(&dir).join(name)).collect());
    }
    let built = build(&["build", "--package", ENGINE[0], "--package", ENGINE[1]])?;
    let path = |name: &&str| built.programs.iter().find(|path| path.ends_with(name)).cloned();
    ENGINE.iter().map(|name| path(name).with_context(|| format!("cargo has not built {name}"))).collect()
}

fn build_tests(package: &str) -> Result<Built> {
    let built = build(&["test", "--no-run", "--package", package])?;
    ensure!(!built.tests.is_empty(), "{package} has no tests");
    Ok(built)
}

fn build(arguments: &[&str]) -> Result<Built> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .args(["--quiet", "--message-format", "json"])
        .current_dir(crate::paths::top())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "cargo {} failed", arguments.join(" "));
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
    Ok(built)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_chosen_by_name() {
        let mut list = CHOSEN.map(|name| format!("{}: test\n", name.replace("basics::", "basics::one"))).concat();
        list.push_str("basics::two: test\nlimits::use_is_shown_twice: test\nnetwork::one: test\n");
        assert_eq!(matching(&list, "").unwrap().len(), CHOSEN.len() + 1);
        assert_eq!(matching(&list, "t").unwrap()[..2], ["basics::two", "limits::limits_are_in_the_cgroup"]);
        assert_eq!(matching(&list, "limits::use").unwrap(), ["limits::use_is_shown"]);
        assert!(matching("basics::one: test\n", "").is_err(), "a name that is no scenario's");
    }
}

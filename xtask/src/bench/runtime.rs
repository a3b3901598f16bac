//! The runtimes alone: `run` of a bundle that `runc spec` made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::report::{Report, Unit};
use super::{Arguments, millis};

const CASE: &str = "runtime run true";

pub(super) fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    if !CASE.contains(&arguments.only) {
        return Ok(());
    }
    let folder = tempfile::Builder::new().prefix("skep-bench-runtime-").tempdir()?;
    bundle(folder.path())?;
    let own = crate::paths::release("skep-runtime");
    let runtimes: [(&'static str, PathBuf); 3] = [("skep", own), ("runc", "runc".into()), ("crun", "crun".into())];
    for round in 0..=arguments.rounds {
        for (name, program) in &runtimes {
            let mut command = Command::new(program);
            command
                .arg("--root")
                .arg(folder.path().join(name))
                .args(["run", "--bundle"])
                .arg(folder.path())
                .arg(format!("bench-{name}"))
                .stdin(Stdio::null());
            let started = Instant::now();
            let output = command.output().with_context(|| format!("{command:?}"))?;
            let took = millis(started.elapsed());
            if *name == "crun" && !output.status.success() {
                // Debian 12's crun does not run on every cgroup layout; then it is left out of the table.
                continue;
            }
            ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
            if round > 0 {
                report.add(CASE, name, Unit::Milliseconds, took);
            }
        }
    }
    Ok(())
}

fn bundle(folder: &Path) -> Result<()> {
    let status = Command::new("runc").arg("spec").current_dir(folder).status().context("runc spec")?;
    ensure!(status.success(), "runc spec failed");
    let root = folder.join("rootfs/bin");
    fs::create_dir_all(&root)?;
    fs::copy("/bin/busybox", root.join("true")).context("the package busybox-static is needed")?;
    let config = folder.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&config)?)?;
    spec["process"]["args"] = serde_json::json!(["/bin/true"]);
    spec["process"]["terminal"] = serde_json::json!(false);
    fs::write(config, serde_json::to_vec(&spec)?)?;
    Ok(())
}

//! Running the programs that the specification wants at points of a container's life.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::error::{LaunchError, Result, Step};
use crate::spec::{Hook, Spec};

/// A container as `state` shows it and as hooks get it on their stdin (runtime.md, "State").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of the specification.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Where in its life it is.
    pub status: Status,
    /// Its first process, as seen by the runtime; 0 once that has ended.
    #[serde(default)]
    pub pid: i32,
    /// The bundle's directory.
    pub bundle: std::path::PathBuf,
    /// The annotations of the specification.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// Where in its life a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits at its gate.
    Created,
    /// Its program runs.
    Running,
    /// Its program is frozen.
    Paused,
    /// Its program has ended.
    Stopped,
}

impl State {
    /// The state of a container with that specification.
    pub fn new(id: &str, spec: &Spec, bundle: &Path, status: Status, pid: i32) -> Self {
        Self {
            oci_version: spec.oci_version.clone(),
            id: id.to_owned(),
            status,
            pid,
            bundle: bundle.to_owned(),
            annotations: spec.annotations.clone(),
        }
    }
}

/// Runs hooks one after the other, each with the state on its stdin. The first that fails ends it.
pub fn run_hooks(name: &'static str, hooks: &[Hook], state: &State) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_vec(state).map_err(|error| LaunchError::system("state", error.to_string()))?;
    for (number, hook) in hooks.iter().enumerate() {
        run(hook, &text)
            .map_err(|error| LaunchError::system(format!("error running {name} hook #{number}"), error.to_string()))?;
    }
    Ok(())
}

fn run(hook: &Hook, state: &[u8]) -> Result<()> {
    // A file rather than a pipe: what a hook says can't block it, and what it leaves running can't block us.
    let said = File::from(memfd_create(c"hook", MemfdFlags::CLOEXEC).step("memfd_create")?);
    let output = || said.try_clone().map(Stdio::from).step("dup");
    let mut command = Command::new(&hook.path);
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear();
    command.envs(hook.env.iter().filter_map(|pair| pair.split_once('=')));
    command.stdin(Stdio::piped()).stdout(output()?).stderr(output()?);
    let mut child = command.spawn().step_with(|| format!("exec {}", hook.path.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its state.
        let _ = stdin.write_all(state);
    }
    if let Some(seconds) = hook.timeout
        && !ends_within(&child, Duration::from_secs(seconds.into()))?
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(LaunchError::system("", format!("hook ran past its timeout of {seconds}s")));
    }
    let status = child.wait().step("wait")?;
    if status.success() {
        return Ok(());
    }
    Err(LaunchError::system("", format!("{status}, output: {}", text_of(said))))
}

fn ends_within(child: &Child, limit: Duration) -> Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| LaunchError::system("pidfd_open", "no pid"))?;
    let pidfd: OwnedFd = pidfd_open(pid, PidfdFlags::empty()).step("pidfd_open")?;
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: 0 };
    let ready = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)));
    Ok(ready.step("poll")? > 0)
}

/// The first part of what a hook has said.
fn text_of(mut said: File) -> String {
    let mut text = Vec::new();
    let _ = said.rewind();
    let _ = said.take(2048).read_to_end(&mut text);
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Option<u32>) -> Hook {
        let args = ["sh", "-c", script].map(str::to_owned).into();
        Hook { path: "/bin/sh".into(), args, env: vec!["A=b".to_owned()], timeout }
    }

    fn state() -> State {
        State::new("c1", &Spec::example(), Path::new("/bundle"), Status::Creating, 7)
    }

    #[test]
    fn hooks_get_the_state_and_only_their_environment() {
        let script = r#"read s; case "$s" in *'"id":"c1","status":"creating","pid":7'*) ;; *) exit 3;; esac; test "$A" = b -a -z "$HOME""#;
        run_hooks("prestart", &[shell(script, None)], &state()).expect("the hook is content");
    }

    #[test]
    fn a_failing_hook_says_why() {
        let hooks = [shell("true", None), shell("echo no luck >&2; exit 4", Some(10))];
        let error = run_hooks("createRuntime", &hooks, &state()).expect_err("it fails");
        assert_eq!(error.to_string(), "error running createRuntime hook #1: exit status: 4, output: no luck");
    }

    #[test]
    fn a_hook_that_hangs_is_killed() {
        let error = run_hooks("poststart", &[shell("exec sleep 1000", Some(1))], &state()).expect_err("it hangs");
        assert!(error.message.contains("timeout of 1s"), "{error}");
    }
}

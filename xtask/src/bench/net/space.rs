//! Network namespaces without a name: hosts of engines, containers, and machines beside them. A thread goes in, and what it
//! starts is in it, too; so programs of this machine measure a container's network without being in its image.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace. It ends with the last process in it, after this is dropped.
pub(super) struct Space {
    namespace: File,
}

impl Space {
    /// A new one, with nothing in it but its loopback.
    pub(super) fn new() -> Result<Space> {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo up && read -r _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare")?;
        let mut line = String::new();
        holder.stdout.take().map(|output| BufReader::new(output).read_line(&mut line)).transpose()?;
        let space = if line.is_empty() { bail!("no network namespace could be made") } else { Space::of(holder.id()) };
        drop(holder.stdin.take());
        holder.wait()?;
        space
    }

    /// That of a process.
    pub(super) fn of(pid: u32) -> Result<Space> {
        let path = format!("/proc/{pid}/ns/net");
        Ok(Space { namespace: File::open(&path).context(path)? })
    }

    /// Takes the calling thread into it, for as long as it lives.
    pub(super) fn enter(&self) -> Result<()> {
        Ok(move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// Does something in it.
    pub(super) fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            thread.join().unwrap_or_else(|_| bail!("a thread in a network namespace broke down"))
        })
    }

    /// `ip` with arguments that are separated by spaces.
    pub(super) fn ip(&self, arguments: &str) -> Result<()> {
        self.within(|| {
            let output = Command::new("ip").args(arguments.split(' ')).output().context("ip")?;
            ensure!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
            Ok(())
        })
    }

    /// Writes a setting below /proc/sys/net.
    pub(super) fn set(&self, path: &str, value: &str) -> Result<()> {
        self.within(|| std::fs::write(format!("/proc/sys/net/{path}"), value).context(path.to_owned()))
    }

    /// Joins two of them by a pair of links.
    pub(super) fn join(&self, link: &str, other: &Space, other_link: &str) -> Result<()> {
        // `ip` takes a path for a namespace when there is a slash in it.
        let path = format!("/proc/{}/fd/{}", std::process::id(), other.namespace.as_raw_fd());
        self.ip(&format!("link add {link} type veth peer name {other_link} netns {path}"))?;
        self.ip(&format!("link set {link} up"))?;
        other.ip(&format!("link set {other_link} up"))
    }

    /// What a program says on its standard output; its failure is an error.
    pub(super) fn output<S: AsRef<OsStr> + Sync>(&self, program: &str, arguments: &[S]) -> Result<Vec<u8>> {
        self.within(|| {
            let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
            let output = output.with_context(|| format!("{program} is needed"))?;
            let complaint = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
            ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&complaint).trim());
            Ok(output.stdout)
        })
    }
}

//! Starting the machine and following it to its end.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How a machine ended.
pub(super) enum End {
    /// With the exit status of the commands.
    Exit(u8),
    TimedOut,
}

pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initrd: &'a Path,
    pub(super) disk: &'a Path,
    pub(super) console: PathBuf,
    pub(super) memory: u32,
    pub(super) cpus: u32,
}

const KERNEL_ARGUMENTS: &str =
    "console=ttyS0 loglevel=4 panic=-1 nokaslr mitigations=off audit=0 cgroup_no_v1=all swapaccount=1 8250.nr_uarts=2";

/// How much of the console is shown if the machine fails.
const CONSOLE_LINES: usize = 40;

/// The machine ends with this program, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine<'_> {
    /// Passes the output on while it comes.
    pub(super) fn run(&self, token: &str, timeout: Duration) -> Result<End> {
        let deadline = Instant::now() + timeout;
        let mut running = Running(self.command().spawn().context("start qemu-system-x86_64")?);
        let output = follow(running.0.stdout.take().context("no output of qemu")?);
        let mut result = Output::new(token);
        loop {
            match output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => std::io::stdout().write_all(&result.take(&bytes))?,
                Err(RecvTimeoutError::Timeout) => return Ok(End::TimedOut),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            std::io::stdout().flush()?;
        }
        running.0.wait()?;
        match result.status() {
            Some(status) => Ok(End::Exit(status)),
            None => {
                let console = std::fs::read(&self.console).unwrap_or_default();
                let console = String::from_utf8_lossy(&console);
                let lines: Vec<&str> = console.lines().collect();
                let end = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n");
                bail!("the machine ended without a result; the end of its console:\n{end}")
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-M",
            "pc",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-display",
            "none",
            "-monitor",
            "none",
            "-nic",
            "none",
        ]);
        command.args(["-no-reboot", "-m", &self.memory.to_string(), "-smp", &self.cpus.to_string()]);
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initrd).args(["-append", KERNEL_ARGUMENTS]);
        command.arg("-drive").arg(format!("file={},if=virtio,format=raw,cache=unsafe", self.disk.display()));
        command.arg("-serial").arg(format!("file:{}", self.console.display())).args(["-serial", "stdio"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        command
    }
}

/// Reads in a thread, so that waiting can have an end.
fn follow(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Takes the line with the exit status out of the output.
struct Output {
    mark: Vec<u8>,
    held: Vec<u8>,
}

impl Output {
    fn new(token: &str) -> Output {
        Output { mark: format!("\n@{token} ").into_bytes(), held: Vec::new() }
    }

    /// What can be passed on for sure, now that `bytes` have come.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend(bytes);
        let mark = &self.mark;
        let could_be_mark = |start: usize| {
            let rest = &self.held[start..];
            rest.starts_with(mark) || mark.starts_with(rest)
        };
        let keep = (0..self.held.len()).find(|start| self.held[*start] == b'\n' && could_be_mark(*start));
        let rest = self.held.split_off(keep.unwrap_or(self.held.len()));
        std::mem::replace(&mut self.held, rest)
    }

    fn status(&self) -> Option<u8> {
        let text = std::str::from_utf8(self.held.strip_prefix(self.mark.as_slice())?).ok()?;
        text.split_once('@')?.0.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_found_however_it_arrives() {
        let all = b"one\n@not it\ntwo\n\n@tok 7@\n";
        for size in 1..=all.len() {
            let mut output = Output::new("tok");
            let passed: Vec<u8> = all.chunks(size).flat_map(|bytes| output.take(bytes)).collect();
            assert_eq!(
                (passed.as_slice(), output.status()),
                (&b"one\n@not it\ntwo\n"[..], Some(7)),
                "pieces of {size}"
            );
        }
        let mut output = Output::new("tok");
        assert_eq!((output.take(b"cut off\n@to"), output.status()), (b"cut off".to_vec(), None));
    }
}

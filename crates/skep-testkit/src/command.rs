//! Running commands, and looking at what came of them.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::wait::DEADLINE;

/// A command to be run to its end. It is killed when it takes longer than [`DEADLINE`], which fails the test.
#[derive(Debug)]
pub struct Command {
    inner: std::process::Command,
    text: String,
    stdin: Vec<u8>,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command line.
    pub command: String,
    /// The exit code; 128 and the number for a signal, as shells have it.
    pub code: i32,
    /// What it wrote.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
}

impl Command {
    /// A program with arguments.
    pub fn new<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut inner = std::process::Command::new(program.as_ref());
        inner.args(arguments);
        let name = Path::new(inner.get_program()).file_name().unwrap_or_default().to_owned();
        let words: Vec<OsString> = std::iter::once(name).chain(inner.get_args().map(OsStr::to_owned)).collect();
        Command { text: words.join(OsStr::new(" ")).to_string_lossy().into_owned(), inner, stdin: Vec::new() }
    }

    /// What it reads.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Command {
        self.stdin = bytes.into();
        self
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Command {
        self.inner.env(name, value);
        self
    }

    /// Where it runs.
    pub fn current_dir(mut self, dir: &Path) -> Command {
        self.inner.current_dir(dir);
        self
    }

    /// Starts it, for tests that talk with it or end it. Its stdin, stdout and stderr are pipes.
    #[track_caller]
    pub fn spawn(self) -> Child {
        self.spawn_with(Stdio::piped(), Stdio::piped(), Stdio::piped())
    }

    #[track_caller]
    pub(crate) fn spawn_with(mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Child {
        self.inner.stdin(stdin).stdout(stdout).stderr(stderr);
        self.inner.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.text))
    }

    /// Runs it to its end.
    #[track_caller]
    #[must_use = "a command's outcome is what a test is about"]
    pub fn run(self) -> Outcome {
        let (text, input) = (self.text.clone(), self.stdin.clone());
        let mut child = self.spawn();
        let mut stdin = child.stdin.take().expect("a pipe");
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input))); // it may not want to read
        let stdout = collect(child.stdout.take().expect("a pipe"));
        let stderr = collect(child.stderr.take().expect("a pipe"));
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            match child.try_wait().expect("wait for a child") {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let (stdout, stderr) = (stdout.join().expect("a thread"), stderr.join().expect("a thread"));
                    panic!("`{text}` did not end\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let _ = writer.join();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        Outcome {
            command: text,
            code: status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(-1),
            stdout: stdout.join().expect("a thread"),
            stderr: stderr.join().expect("a thread"),
        }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Outcome {
    /// Fails the test if the command failed.
    #[track_caller]
    pub fn success(self) -> Outcome {
        self.code_is(0)
    }

    /// Fails the test if the exit code is another.
    #[track_caller]
    pub fn code_is(self, code: i32) -> Outcome {
        assert!(self.code == code, "expected exit code {code}\n{self}");
        self
    }

    /// Fails the test if the output is another.
    #[track_caller]
    pub fn stdout_is(self, text: &str) -> Outcome {
        assert!(self.stdout == text, "expected on stdout: {text:?}\n{self}");
        self
    }

    /// Fails the test if the output does not contain the text.
    #[track_caller]
    pub fn stdout_has(self, text: &str) -> Outcome {
        assert!(self.stdout.contains(text), "expected on stdout: ...{text:?}...\n{self}");
        self
    }

    /// Fails the test if the complaints do not contain the text.
    #[track_caller]
    pub fn stderr_has(self, text: &str) -> Outcome {
        assert!(self.stderr.contains(text), "expected on stderr: ...{text:?}...\n{self}");
        self
    }

    /// The output without white space around it, such as the id that a command prints.
    pub fn word(&self) -> String {
        self.stdout.trim().to_owned()
    }

    /// The output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON: {error}\n{self}"))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome { command, code, stdout, stderr } = self;
        write!(f, "--- {command}\nexit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes() {
        let outcome = Command::new("sh", ["-c", "cat; echo two >&2; exit 3"]).stdin("one").run();
        assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (3, "one", "two\n"));
        assert_eq!(outcome.command, "sh -c cat; echo two >&2; exit 3");
        assert_eq!(Command::new("sh", ["-c", "kill -9 $$"]).run().code, 137);
        assert_eq!(Command::new("true", [""; 0]).stdin(vec![0; 1 << 20]).run().code, 0);
    }
}

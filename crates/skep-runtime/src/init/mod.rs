//! The first process of a container that was asked for with `--init`: it starts the real program, passes signals on to it, reaps
//! orphans, and ends as the program ends. Inside the container it is `/sbin/docker-init`.
//!
//! The program gets a process group of its own, in the terminal's foreground if there is a terminal: Ctrl-C reaches it once, from
//! the terminal, and not a second time from here. Signals go to the program only, not to its group.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};
use skep_sys::event::{block_signals, signal_process, wait_for_signal};
use skep_sys::process::{Child, clone_child, execve, reset_signals};

/// The name under which the runtime's program is this.
pub const NAME: &str = "docker-init";

/// Where programs are looked for if the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const SIGCHLD: i32 = 17;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;
/// The signals of faults in the process itself. They are not taken: that would only hide the fault.
const FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];
const LAST_SIGNAL: i32 = 64;
/// Not for programs: the C library's own.
const INTERNAL: [i32; 2] = [32, 33];

/// Runs `arguments`, an optional `--` and then a program with its arguments. Returns the exit code of the process.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.first().is_some_and(|a| a == "--") {
        arguments.remove(0);
    }
    if arguments.is_empty() {
        complain("no program given");
        return 1;
    }
    match supervise(&arguments) {
        Ok(code) => code,
        Err(e) => {
            complain(&format!("{}: {e}", arguments[0].display()));
            1
        }
    }
}

/// Blocks the signals that [`run`] takes over, so that none is lost which comes before that.
pub(crate) fn hold_signals() -> io::Result<()> {
    block_signals(&signals())
}

fn signals() -> Vec<i32> {
    (1..=LAST_SIGNAL).filter(|s| !FAULTS.contains(s) && !INTERNAL.contains(s)).collect()
}

fn supervise(arguments: &[OsString]) -> io::Result<u8> {
    let signals = signals();
    block_signals(&signals)?;
    // If this is not the first process of its pid namespace, orphans come here all the same.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let child = clone_child(0, None, || become_program(arguments))?;
    loop {
        match wait_for_signal(&signals)? {
            SIGCHLD => {
                if let Some(status) = reap(&child) {
                    return Ok(exit_code(status));
                }
            }
            // The terminal's way to stop a background process; meant for this one.
            SIGTTIN | SIGTTOU => {}
            // A program that has just ended is no error: SIGCHLD follows.
            signal => drop(signal_process(std::os::fd::AsFd::as_fd(&child.pidfd), signal)),
        }
    }
}

/// Takes all children that have ended. Returns how the program ended, if it has.
fn reap(program: &Child) -> Option<WaitStatus> {
    let mut ended = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == program.pid => ended = Some(status),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return ended,
        }
    }
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = status.terminating_signal().map_or_else(|| status.exit_status().unwrap_or(255), |signal| 128 + signal);
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// In the child: leaves the first process's group and executes the program. Returns the exit code if that fails.
fn become_program(arguments: &[OsString]) -> i32 {
    if rustix::process::setpgid(None, None).is_ok() {
        let group: Pid = rustix::process::getpgrp();
        // SIGTTOU is still blocked, so this works from the background too; without a terminal it does nothing.
        let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), group);
    }
    reset_signals();
    let error = execute(arguments);
    complain(&format!("exec {} failed: {error}", arguments[0].display()));
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => 127,
        _ => 126,
    }
}

/// Searches `PATH` as execvp(3) does, and executes.
fn execute(arguments: &[OsString]) -> io::Error {
    let to_c = |text: &OsStr| CString::new(text.as_bytes());
    let strings: Result<Vec<CString>, _> = arguments.iter().map(|a| to_c(a)).collect();
    let environment: Result<Vec<CString>, _> = env::vars_os()
        .map(|(name, value)| {
            let mut both = name.into_vec();
            both.push(b'=');
            both.extend_from_slice(value.as_bytes());
            CString::new(both)
        })
        .collect();
    let (Ok(strings), Ok(environment)) = (strings, environment) else { return Errno::INVAL.into() };

    let name = &arguments[0];
    if name.is_empty() || name.as_bytes().contains(&b'/') {
        return execve(&strings[0], &strings, &environment);
    }
    let path = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let mut denied = None;
    for directory in env::split_paths(&path) {
        let Ok(candidate) = to_c(directory.join(name).as_os_str()) else { continue };
        let error = execve(&candidate, &strings, &environment);
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
            io::ErrorKind::PermissionDenied => denied = Some(error),
            _ => return error,
        }
    }
    denied.unwrap_or_else(|| Errno::NOENT.into())
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{NAME}: {text}");
}

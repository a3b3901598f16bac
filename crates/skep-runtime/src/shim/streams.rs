//! The standard streams of a new process: what it gets, and what the shim keeps.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;

use super::Stream;
use super::input::Input;
use super::poll::{Poller, ProcessKey, Watched};
use super::process::{InputEnd, Process};
use crate::container::{Launched, Stdio};
use crate::protocol::Target;
use crate::spec;

/// The shim's ends of a process's pipes. None of them blocks. All are missing if it has a terminal.
#[derive(Debug, Default)]
pub(super) struct Ours {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// With a terminal: whether its input comes from clients.
    terminal_input: bool,
}

/// Which streams a process has; the others are `/dev/null`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

/// Makes the streams of `process`.
pub(super) fn make(process: &spec::Process, wanted: Wanted) -> io::Result<(Stdio, Ours)> {
    if process.terminal {
        let size = process.console_size.unwrap_or_default();
        return Ok((Stdio::Terminal(size), Ours { terminal_input: wanted.stdin, ..Ours::default() }));
    }
    let mut ours = Ours::default();
    let stdin = if wanted.stdin {
        let (read, write) = pipe()?;
        do_not_block(&write)?;
        ours.stdin = Some(write);
        read
    } else {
        null()?
    };
    let output = |wanted: bool| {
        if !wanted {
            return Ok((null()?, None));
        }
        let (read, write) = pipe()?;
        do_not_block(&read)?;
        io::Result::Ok((write, Some(read)))
    };
    let (stdout, our_stdout) = output(wanted.stdout)?;
    let (stderr, our_stderr) = output(wanted.stderr)?;
    (ours.stdout, ours.stderr) = (our_stdout, our_stderr);
    Ok((Stdio::Fds([stdin, stdout, stderr]), ours))
}

impl Ours {
    /// The launched process as the shim looks after it.
    pub(super) fn join(
        self,
        poller: &Poller,
        launched: &mut Launched,
        (key, target): (ProcessKey, Target),
        on_input_end: InputEnd,
        patience: Option<Duration>,
    ) -> io::Result<Process> {
        let mut ours = self;
        let terminal = launched.pty_master.take();
        if let Some(master) = &terminal {
            do_not_block(master)?;
            ours.stdout = Some(master.try_clone()?);
            ours.stdin = if ours.terminal_input { Some(master.try_clone()?) } else { None };
        }
        let watched = |fd, stream| Watched::new(poller, fd, Process::output_token(key, stream));
        let mut process = Process {
            key,
            target,
            pid: launched.pid,
            pidfd: launched.pidfd.try_clone()?,
            start_time: launched.start_time,
            stdout: ours.stdout.map(|fd| watched(fd, Stream::Stdout)),
            stderr: ours.stderr.map(|fd| watched(fd, Stream::Stderr)),
            input: ours.stdin.map(|fd| Input::new(poller, fd, key)),
            // A terminal has no end of input that could be passed on.
            on_input_end: if terminal.is_some() { InputEnd::Detaches } else { on_input_end },
            terminal,
            log: None,
            clients: Vec::new(),
            next_client: 0,
            exit: None,
            told: false,
            output_deadline: None,
            patience,
        };
        process.settle();
        Ok(process)
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

fn null() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

fn do_not_block(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

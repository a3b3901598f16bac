//! Waiting for a process in the foreground: its signals, and its terminal if it has one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use skep_runtime::container::{LaunchError, Launched, Result};
use skep_sys::process::{SignalFd, send_signal};

/// Waits for the end of a process that was started; returns its exit code, 128 and the signal's number if one ended it.
pub(crate) fn wait(launched: Launched) -> Result<u8> {
    let signals = SignalFd::all().map_err(|error| LaunchError::os("signalfd", error))?;
    let raw = launched.pty_master.as_ref().and_then(|_| Raw::enter());
    let mut pump = launched.pty_master.as_ref().map(|master| Pump { master, stdin_open: true, master_open: true });
    if let Some(pump) = &pump {
        pump.resize();
    }
    loop {
        let mut fds =
            vec![PollFd::new(&launched.pidfd, PollFlags::IN), PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        let wants_stdin = pump.as_ref().is_some_and(|pump| pump.stdin_open && pump.master_open);
        if let Some(pump) = pump.as_ref().filter(|pump| pump.master_open) {
            fds.push(PollFd::new(pump.master, PollFlags::IN));
            if wants_stdin {
                fds.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
            }
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(LaunchError::os("poll", error)),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let is_ready = |at: usize| ready.get(at).copied().unwrap_or(false);
        if let Some(pump) = &mut pump {
            if is_ready(2) {
                pump.master_open = copy(pump.master.as_fd(), rustix::stdio::stdout());
            }
            if is_ready(3) {
                pump.stdin_open = copy(rustix::stdio::stdin(), pump.master.as_fd());
            }
        }
        if is_ready(1) {
            while let Some(signal) = signals.take() {
                forward(signal, &launched.pidfd, pump.as_ref());
            }
        }
        if is_ready(0) {
            if let Some(pump) = &mut pump {
                pump.drain();
            }
            drop(raw);
            return reap(&launched.pidfd);
        }
    }
}

/// Signals that say something about this process rather than to the container.
fn forward(signal: i32, process: &OwnedFd, pump: Option<&Pump<'_>>) {
    match signal {
        libc::SIGCHLD | libc::SIGURG | libc::SIGPIPE => {}
        libc::SIGWINCH => {
            if let Some(pump) = pump {
                pump.resize();
            }
        }
        other => drop(send_signal(process, other)),
    }
}

fn reap(process: &OwnedFd) -> Result<u8> {
    let status: Option<WaitIdStatus> =
        rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED))
            .map_err(|error| LaunchError::os("wait", error))?;
    let code = status.and_then(|status| status.exit_status().or_else(|| status.terminating_signal().map(|n| 128 + n)));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
}

/// The terminal of the process.
struct Pump<'a> {
    master: &'a OwnedFd,
    stdin_open: bool,
    master_open: bool,
}

impl Pump<'_> {
    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
            let _ = tcsetwinsize(self.master, size);
        }
    }

    /// Copies what the process has written until its end.
    fn drain(&mut self) {
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        while self.master_open && poll(&mut [PollFd::new(self.master, PollFlags::IN)], Some(&now)) == Ok(1) {
            self.master_open = copy(self.master.as_fd(), rustix::stdio::stdout());
        }
    }
}

/// Copies what is there; false at the end. A terminal whose other side is closed gives EIO.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut bytes = [0u8; 16 * 1024];
    let length = match rustix::io::retry_on_intr(|| rustix::io::read(from, &mut bytes)) {
        Ok(0) => return false,
        Ok(length) => length,
        Err(Errno::AGAIN) => return true,
        Err(_) => return false,
    };
    let mut rest = &bytes[..length];
    while !rest.is_empty() {
        match rustix::io::retry_on_intr(|| rustix::io::write(to, rest)) {
            Ok(written) => rest = &rest[written..],
            Err(_) => return false,
        }
    }
    true
}

/// The caller's terminal, in raw mode until dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let stdin = rustix::stdio::stdin();
        let before = tcgetattr(stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

//! The terminal: raw mode, size, and the guard that puts everything back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::termios::{LocalModes, OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Whether `fd` is a terminal.
pub(crate) fn is_terminal(fd: impl AsFd) -> bool {
    isatty(fd)
}

/// Rows and columns of the terminal behind stdout or stdin.
pub(crate) fn size() -> Option<(u16, u16)> {
    let known = |window: Winsize| (window.ws_row != 0 || window.ws_col != 0).then_some((window.ws_row, window.ws_col));
    tcgetwinsize(io::stdout()).ok().and_then(known).or_else(|| tcgetwinsize(io::stdin()).ok().and_then(known))
}

/// Rows and columns of the terminal behind stderr.
pub(crate) fn error_size() -> Option<(u16, u16)> {
    tcgetwinsize(io::stderr())
        .ok()
        .filter(|window| window.ws_row > 0 && window.ws_col > 0)
        .map(|window| (window.ws_row, window.ws_col))
}

/// Columns to wrap help and progress at: the terminal's, 80 elsewhere.
pub(crate) fn columns() -> usize {
    tcgetwinsize(io::stdout()).ok().map_or(80, |window| usize::from(window.ws_col)).max(20)
}

/// A terminal in raw mode: keys go to the container unchanged. Dropping it restores the mode.
pub(crate) struct RawMode {
    stdin: io::Stdin,
    before: Termios,
}

impl RawMode {
    /// Puts the terminal behind stdin into raw mode; None if stdin is no terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !isatty(&stdin) {
            return Ok(None);
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
        Ok(Some(RawMode { stdin, before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // There is no better state to go to when this fails.
        let _ = tcsetattr(stdin_fd(&self.stdin), OptionalActions::Drain, &self.before);
    }
}

/// A terminal that doesn't show what is typed. Dropping it restores the mode.
pub(crate) struct Hidden {
    stdin: io::Stdin,
    before: Termios,
}

impl Hidden {
    /// Hides what is typed at the terminal behind stdin.
    pub(crate) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &hidden)?;
        Ok(Hidden { stdin, before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // There is no better state to go to when this fails.
        let _ = tcsetattr(stdin_fd(&self.stdin), OptionalActions::Now, &self.before);
    }
}

fn stdin_fd(stdin: &io::Stdin) -> BorrowedFd<'_> {
    stdin.as_fd()
}

//! A command on a terminal, for what only happens there: `-t`, detach keys, sizes.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::wait::until_some;
use crate::{Command, until};

/// The terminal, with its command.
#[derive(Debug)]
pub struct Terminal {
    master: std::fs::File,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
    /// How much of `seen` has been expected already.
    read: usize,
}

impl Terminal {
    #[track_caller]
    pub(crate) fn start<A: AsRef<OsStr>>(
        prepare: impl FnOnce(Command) -> Command,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal");
        let name = ptsname(&master, Vec::new()).expect("the terminal's name");
        let slave = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(OsStr::new(&*name.to_string_lossy()))
            .expect("the terminal");
        set_size(&slave.try_clone().expect("a second descriptor").into(), 24, 80);
        // setsid(1) makes it the controlling terminal.
        let words = ["--ctty", "--wait", "--"].map(OsString::from).into_iter().chain([program.as_ref().to_owned()]);
        let words = words.chain(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        let stdio = || Stdio::from(slave.try_clone().expect("a second descriptor"));
        let child = prepare(Command::new("setsid", words)).spawn_with(stdio(), stdio(), stdio());
        drop(slave);
        let master = std::fs::File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, sink) = (master.try_clone().expect("a second descriptor"), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO when the last user of the terminal is gone.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                sink.lock().expect("no panic in this thread").extend_from_slice(&buffer[..count]);
            }
        });
        Terminal { master, child, seen, read: 0 }
    }

    /// Types.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.master.write_all(bytes.as_ref()).expect("type");
    }

    /// Waits for a text after what was expected before; returns what came before it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let (from, seen) = (self.read, Arc::clone(&self.seen));
        let find = || {
            let seen = seen.lock().expect("no panic in that thread");
            let at = seen[from..].windows(text.len()).position(|window| window == text.as_bytes())?;
            Some((String::from_utf8_lossy(&seen[from..from + at]).into_owned(), from + at + text.len()))
        };
        let (before, read) = until_some(&format!("{text:?} on the terminal"), find);
        self.read = read;
        before
    }

    /// Everything shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("no panic in that thread")).into_owned()
    }

    /// Changes its size, as a user who drags the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.master.try_clone().expect("a second descriptor").into(), rows, columns);
    }

    /// Waits for the command's end; returns its exit code.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let mut code = None;
        until("the command on the terminal ends", || {
            code = self.child.try_wait().expect("wait for a child").map(|status| status.code().unwrap_or(-1));
            code.is_some()
        });
        code.unwrap_or(-1)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: &OwnedFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("set the terminal's size");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_on_a_terminal() {
        let mut terminal =
            Terminal::start(|command| command, "sh", ["-c", "stty size; read x; echo got $x; stty size; exit 4"]);
        terminal.expect("24 80");
        terminal.resize(50, 132);
        terminal.send("line\n");
        terminal.expect("got line");
        terminal.expect("50 132");
        assert_eq!(terminal.wait(), 4);
        assert!(terminal.shown().contains("got line"));
    }
}

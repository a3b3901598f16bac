//! What `create` and `exec` have in common: terminals, pid files and sockets of the caller's.

use std::fs;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect, sendmsg, socket_with,
};
use skep_runtime::container::{LaunchError, Result, Stdio};
use skep_runtime::spec::{ConsoleSize, Process};

/// Whether the caller waits for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It does, and lends it its terminal.
    Attached,
    /// It does not.
    Detached,
}

/// Checks that terminal and console socket fit together, and connects to the socket.
pub(crate) fn console(process: &Process, socket: Option<&Path>, mode: Mode) -> Result<Option<OwnedFd>> {
    match (process.terminal, socket, mode) {
        (true, None, Mode::Detached) => {
            Err(LaunchError::invalid("cannot allocate tty if skep-runtime will detach without setting console socket"))
        }
        (false, Some(_), _) | (true, Some(_), Mode::Attached) => {
            Err(LaunchError::invalid("cannot use console socket if skep-runtime will not detach or allocate tty"))
        }
        (_, None, _) => Ok(None),
        (true, Some(path), Mode::Detached) => connect_to(path).map(Some),
    }
}

fn connect_to(path: &Path) -> Result<OwnedFd> {
    let step = |error| LaunchError::os(format!("connect to console socket {}", path.display()), error);
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(step)?;
    connect(&socket, &SocketAddrUnix::new(path).map_err(step)?).map_err(step)?;
    Ok(socket)
}

/// Sends the terminal's master over the console socket, with a name as runc does.
pub(crate) fn hand_over(socket: &OwnedFd, master: &OwnedFd) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [master.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(b"/dev/ptmx")], &mut control, SendFlags::NOSIGNAL)
        .map_err(|error| LaunchError::os("send to console socket", error))?;
    Ok(())
}

/// The standard streams that a process gets.
pub(crate) fn stdio(process: &Process) -> Stdio {
    if !process.terminal {
        return Stdio::Inherit;
    }
    let own = || rustix::termios::tcgetwinsize(rustix::stdio::stdin()).ok();
    let size = process.console_size.or_else(|| own().map(|own| ConsoleSize { height: own.ws_row, width: own.ws_col }));
    Stdio::Terminal(size.unwrap_or_default())
}

/// Writes a pid file; a reader never sees half of it.
pub(crate) fn write_pid(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}"));
    fs::write(&new, pid.to_string())
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| LaunchError::os(format!("write pid file {}", path.display()), error))
}

/// How many descriptors the caller passes on: what it says, and those of socket activation (sd_listen_fds(3)), for which the process
/// gets its variables.
pub(crate) fn preserved(process: &mut Process, asked: u32) -> u32 {
    let listening = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse::<u32>().ok()).unwrap_or(0);
    if listening > 0 {
        process.env.push(format!("LISTEN_FDS={listening}"));
        process.env.push("LISTEN_PID=1".to_owned());
    }
    asked + listening
}

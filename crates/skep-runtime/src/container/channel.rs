//! What a new process and the one that cloned it tell each other, over a pair of `SOCK_SEQPACKET` sockets.
//!
//! ```text
//!   parent                                   child
//!     │ ids mapped, limits raised              │ (waits)
//!     ├── Go{pid} ────────────────────────────▶│ namespaces
//!     ├── Root, Bind{at}... (+ mounts) ───────▶│ only into a user namespace, if the parent could open them
//!     ├── Mounts ─────────────────────────────▶│ only into a user namespace: mounts, devices, terminal
//!     │◀──────────────────────────── RunHooks ─┤ only if there are prestart or createRuntime hooks
//!     ├── HooksDone ──────────────────────────▶│ pivot_root, user, capabilities, program found
//!     │◀────────────────── Ready (+ terminal) ─┤ at the gate
//!     ├── Start ──────────────────────────────▶│ startContainer hooks, seccomp, execve
//!     │◀────────────────────── end of stream ──┤ close-on-exec
//! ```
//!
//! At any point the child may send `Failed` instead, and exit. When the gate is a listening socket, `Start` comes on a connection to
//! that, and so does what follows.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use super::error::{LaunchError, Result, Step};

/// What the parent tells the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Everything that only the parent can do for it is done.
    Go {
        /// The child's pid as the parent sees it.
        pid: i32,
    },
    /// The detached root file system comes along.
    Root,
    /// The detached source of a bind mount comes along.
    Bind {
        /// Which of the specification's mounts it is for.
        at: usize,
    },
    /// That was all: make the mounts.
    Mounts,
    /// The hooks in the runtime's namespaces have run.
    HooksDone,
    /// Execute the program.
    Start,
}

/// What the child tells the parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// The container's first process is there; its pidfd comes along.
    Born,
    /// The namespaces and mounts are there; run the hooks.
    RunHooks,
    /// At the gate. The terminal's master comes along if there is one.
    Ready,
    /// It is over.
    Failed(LaunchError),
}

/// The longest message taken; an error message is cut to fit.
const MESSAGE_MAX: usize = 16 * 1024;

/// A pair of connected sockets.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).step("socketpair")
}

/// Sends one message, and a descriptor with it if there is one.
pub(super) fn send<M: Serialize>(socket: impl AsFd, message: &M, fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let text = serde_json::to_vec(message).map_err(|error| LaunchError::system("send", error.to_string()))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let sent =
        rustix::io::retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL));
    sent.map(drop).step("send")
}

/// Receives one message with the descriptor that came along; nothing at the end of the stream.
pub(super) fn receive<M: for<'a> Deserialize<'a>>(socket: impl AsFd) -> Result<Option<(M, Option<OwnedFd>)>> {
    let mut text = vec![0; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(&socket, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)
    });
    let length = match received {
        Ok(received) => received.bytes,
        Err(Errno::CONNRESET) => 0,
        Err(error) => return Err(LaunchError::os("receive", error)),
    };
    if length == 0 {
        return Ok(None);
    }
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let message = serde_json::from_slice(&text[..length])
        .map_err(|error| LaunchError::system("receive", format!("not a message: {error}")))?;
    Ok(Some((message, fd)))
}

/// Tells why it is over; nobody listening is nothing to report.
pub(super) fn fail(socket: impl AsFd, mut error: LaunchError) {
    let limit = error.message.char_indices().map(|(at, _)| at).take_while(|&at| at <= 4096).last().unwrap_or(0);
    if error.message.len() > 4096 {
        error.message.truncate(limit);
    }
    let _ = send(socket, &Report::Failed(error), None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_arrive() {
        let (ours, theirs) = pair().expect("sockets");
        send(&ours, &Order::Go { pid: 7 }, None).expect("sent");
        assert!(matches!(receive::<Order>(&theirs), Ok(Some((Order::Go { pid: 7 }, None)))));
        send(&theirs, &Report::Ready, Some(ours.as_fd())).expect("sent");
        assert!(matches!(receive::<Report>(&ours), Ok(Some((Report::Ready, Some(_))))));
        fail(&theirs, LaunchError::system("x", "é".repeat(5000)));
        assert!(
            matches!(receive::<Report>(&ours), Ok(Some((Report::Failed(error), _))) if error.message.len() == 4096)
        );
        drop(theirs);
        assert!(matches!(receive::<Report>(&ours), Ok(None)));
    }
}

//! One connection to a shim: frames out (with a descriptor, if need be), frames in.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bytes::{Buf, BytesMut};
use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use skep_runtime::protocol::{Reply, Request, SHIM_SOCKET, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::ShimError;

/// A connection. Reading is safe to cancel: what has come in stays in the buffer.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    buffer: BytesMut,
}

impl Connection {
    /// Connects to the shim of `bundle`. Goes through the directory's descriptor: the path of a socket may have only 107 bytes.
    pub(super) async fn open(bundle: &Path) -> Result<Self, ShimError> {
        let directory = rustix::fs::open(bundle, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| ShimError::Unreachable(e.into()))?;
        let path = socket_path(directory.as_fd());
        UnixStream::connect(path).await.map(Connection::new).map_err(ShimError::Unreachable)
    }

    pub(super) fn new(stream: UnixStream) -> Self {
        Connection { stream, buffer: BytesMut::new() }
    }

    /// Sends a request, and `passed` along with its first byte.
    pub(super) async fn send(&mut self, request: &Request, passed: Option<OwnedFd>) -> Result<(), ShimError> {
        let bytes = frame::encode(request)?;
        let mut sent = 0;
        if let Some(fd) = &passed {
            let first = || send_with_fd(&self.stream, &bytes, fd.as_fd());
            sent = self.stream.async_io(Interest::WRITABLE, first).await?;
        }
        self.stream.write_all(&bytes[sent..]).await?;
        Ok(())
    }

    /// The next message; `None` when the shim has closed the connection.
    pub(super) async fn receive(&mut self) -> Result<Option<Reply>, ShimError> {
        loop {
            if let Some((reply, length)) = frame::decode(&self.buffer)? {
                self.buffer.advance(length);
                return Ok(Some(reply));
            }
            self.buffer.reserve(1024);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The next message, which has to come; a failure becomes an error.
    pub(super) async fn answer(&mut self) -> Result<Reply, ShimError> {
        match self.receive().await? {
            Some(Reply::Failed(failure)) => Err(failure.into()),
            Some(reply) => Ok(reply),
            None => Err(ShimError::NoAnswer),
        }
    }
}

/// An answer that does not belong to the question.
pub(super) fn wrong_answer(reply: &Reply) -> ShimError {
    ShimError::WrongAnswer(format!("{reply:?}"))
}

fn socket_path(directory: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}/{SHIM_SOCKET}", directory.as_raw_fd())
}

fn send_with_fd(stream: &UnixStream, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let rights = [fd];
    control.push(SendAncillaryMessage::ScmRights(&rights));
    Ok(rustix::net::sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

//! A connection that becomes the streams of a process (attach, exec start).
//!
//! ```text
//! client                                         server
//!   POST …/attach  Upgrade: tcp   ──────────────→         hyper answers 101 UPGRADED and hands the socket over
//!   POST …/attach  (no Upgrade, or HTTP/1.0) ───→         200, written by hand on a socket taken back from hyper
//!   stdin, raw                    ──────────────→
//!                                 ←──────────────  output, framed or raw
//!   half-close: end of stdin      ──────────────→
//!                                 ←──────────────  close: the process has ended, or the client detached
//! ```
//!
//! Output waits until the client has read the head, as far as that can be seen: some, Docker's SDK for Python among them, read the head through
//! a buffer, then the rest past it, and lose what came in one packet with the head.
//!
//! Bytes that came in one packet with the request's head are not lost: they are read from hyper's buffer first.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use skep_engine::model::request::Attachment;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Runs on the connection until one side is done.
pub(crate) type Session = Box<dyn FnOnce(Hijacked) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// How often a client that has nothing more to say is looked after.
const LOOK: Duration = Duration::from_secs(1);

/// How long output waits for a client that does not read the head.
const HEAD_IS_READ: Duration = Duration::from_secs(1);

/// How long output waits over TCP.
const MOMENT: Duration = Duration::from_millis(5);

/// A connection without HTTP.
pub(crate) struct Hijacked {
    pub(crate) io: Box<dyn Duplex>,
    /// Tells whether the client has gone, or only has no more input.
    pub(crate) peer: Peer,
}

/// Both directions of a connection.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The socket of a connection, to look at while others read and write it.
#[derive(Clone)]
pub(crate) struct Peer(Arc<OwnedFd>);

impl Peer {
    pub(crate) fn of(socket: impl AsFd) -> io::Result<Self> {
        Ok(Peer(Arc::new(socket.as_fd().try_clone_to_owned()?)))
    }

    /// Both directions are closed. A half-closed client is still there.
    fn is_gone(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut sockets = [PollFd::new(&*self.0, PollFlags::empty())];
        poll(&mut sockets, Some(&Timespec::default())).is_ok()
            && sockets[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Returns when the client has read all that was sent to it. The kernel has no event for that; as a rule the first look is
    /// enough. Over TCP the kernel does not know: such a client is given a moment.
    async fn has_read(&self) {
        use rustix::net::{AddressFamily, sockopt::socket_domain};
        if socket_domain(&*self.0) != Ok(AddressFamily::UNIX) {
            return tokio::time::sleep(MOMENT).await;
        }
        let unread = || skep_sys::socket::unread_by_peer(self.0.as_fd()).is_ok_and(|length| length > 0);
        let deadline = tokio::time::Instant::now() + HEAD_IS_READ;
        while unread() && !self.is_gone() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn gone(&self) {
        while !self.is_gone() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Connects a client to a process: its bytes to stdin, output to it.
pub(crate) fn attach(attachment: Attachment) -> Session {
    Box::new(move |hijacked| Box::pin(run(attachment, hijacked)))
}

async fn run(attachment: Attachment, hijacked: Hijacked) {
    let Hijacked { io, peer } = hijacked;
    let (mut from_client, mut to_client) = tokio::io::split(io);
    let Attachment { output, input, .. } = attachment;
    let towards = async {
        let result = match input {
            Some(mut input) => {
                let copied = tokio::io::copy(&mut from_client, &mut input).await;
                let _ = input.shutdown().await;
                copied
            }
            // Nobody takes the bytes, but the end has to be seen.
            None => tokio::io::copy(&mut from_client, &mut tokio::io::sink()).await,
        };
        if result.is_ok() {
            peer.gone().await;
        }
    };
    let back = async {
        let _ = copy_promptly(output, &mut to_client, &peer).await;
        let _ = to_client.shutdown().await;
    };
    tokio::select! {
        () = towards => {}
        () = back => {}
    }
}

/// Copies what there is as soon as it is there, and the client has read the head.
async fn copy_promptly(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    peer: &Peer,
) -> io::Result<()> {
    let mut buffer = vec![0; 32 << 10];
    let mut first = true;
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.flush().await;
        }
        if std::mem::take(&mut first) {
            peer.has_read().await;
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
    }
}

/// A connection whose first bytes were read already.
pub(crate) struct Rewound<T> {
    first: Bytes,
    io: T,
}

impl<T> Rewound<T> {
    pub(crate) fn new(first: Bytes, io: T) -> Self {
        Rewound { first, io }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewound<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let length = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..length]);
        self.first.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewound<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

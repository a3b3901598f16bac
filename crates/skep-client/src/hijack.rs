//! A connection taken over from HTTP: bytes both ways, each direction ended on its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};

use crate::error::Result;

/// A raw stream to a container's process.
pub struct Hijacked {
    io: TokioIo<Upgraded>,
    content_type: Option<String>,
}

impl Hijacked {
    pub(crate) fn new(upgraded: Upgraded, content_type: Option<String>) -> Self {
        Hijacked { io: TokioIo::new(upgraded), content_type }
    }

    /// Whether stdout and stderr come multiplexed; None if the server did not say (API before 1.42).
    pub fn is_multiplexed(&self) -> Option<bool> {
        self.content_type.as_deref().map(|kind| kind == "application/vnd.docker.multiplexed-stream")
    }

    /// The two directions. Bytes that came right behind the answer's head are read first: hyper hands them over with
    /// the connection.
    pub fn split(self) -> (HijackedReader, HijackedWriter) {
        let (read, write) = tokio::io::split(self.io);
        (HijackedReader { read }, HijackedWriter { write })
    }
}

/// What comes from the process.
pub struct HijackedReader {
    read: ReadHalf<TokioIo<Upgraded>>,
}

impl HijackedReader {
    /// Reads into `buffer`; 0 at the end.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        Ok(AsyncReadExt::read(self, buffer).await?)
    }
}

impl AsyncRead for HijackedReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buffer)
    }
}

/// What goes to the process.
pub struct HijackedWriter {
    write: WriteHalf<TokioIo<Upgraded>>,
}

impl HijackedWriter {
    /// Sends all of `bytes`.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.write.write_all(bytes).await?;
        Ok(self.write.flush().await?)
    }

    /// Ends this direction only: the process sees the end of its input, its output goes on.
    pub async fn close(&mut self) -> Result<()> {
        Ok(self.write.shutdown().await?)
    }
}

impl AsyncWrite for HijackedWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(cx)
    }
}

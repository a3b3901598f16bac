//! Bytes between async code and blocking threads, over bounded channels.
//!
//! A stream that just stops is not a stream that ended: only [`Feed::finish`] makes the reader see the end. A pull that is cancelled
//! or a client that hangs up makes it see an error, and whatever was made from the bytes so far is dropped.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use super::{ImageError, Result};

/// Chunks that wait between the two sides.
const DEPTH: usize = 16;
const CHUNK: usize = 64 * 1024;

enum Item {
    Data(Bytes),
    End,
}

/// The async side of a stream that a thread reads.
pub(super) struct Feed(mpsc::Sender<Item>);

/// The thread's side.
pub(super) struct FeedReader {
    items: mpsc::Receiver<Item>,
    current: Bytes,
    ended: bool,
    broke_off: bool,
}

/// The reader is gone: it failed, and its result tells why.
#[derive(Debug)]
pub(super) struct ReaderGone;

/// A pipe from async code to a thread.
pub(super) fn feed() -> (Feed, FeedReader) {
    let (sender, items) = mpsc::channel(DEPTH);
    (Feed(sender), FeedReader { items, current: Bytes::new(), ended: false, broke_off: false })
}

impl Feed {
    /// Hands over bytes; waits while the reader is behind.
    pub(super) async fn send(&self, data: Bytes) -> Result<(), ReaderGone> {
        self.0.send(Item::Data(data)).await.map_err(|_| ReaderGone)
    }

    /// Says that this was all.
    pub(super) async fn finish(self) {
        // A reader that stopped early has a result of its own.
        let _ = self.0.send(Item::End).await;
    }

    /// Sends all that `source` gives, then the end.
    pub(super) async fn copy(self, mut source: impl AsyncRead + Unpin) -> io::Result<()> {
        loop {
            let mut buffer = bytes::BytesMut::with_capacity(CHUNK);
            if source.read_buf(&mut buffer).await? == 0 {
                self.finish().await;
                return Ok(());
            }
            if self.send(buffer.freeze()).await.is_err() {
                return Ok(());
            }
        }
    }
}

impl FeedReader {
    /// Whether the other side went away before the end.
    pub(super) fn broke_off(&self) -> bool {
        self.broke_off
    }

    /// As `read`, showing each chunk once when it arrives.
    pub(super) fn read_with(&mut self, out: &mut [u8], mut arrived: impl FnMut(&Bytes)) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.ended {
                return Ok(0);
            }
            match self.items.blocking_recv() {
                Some(Item::Data(data)) => {
                    arrived(&data);
                    self.current = data;
                }
                Some(Item::End) => self.ended = true,
                None => {
                    self.broke_off = true;
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the sender went away"));
                }
            }
        }
        let count = out.len().min(self.current.len());
        self.current.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}

impl Read for FeedReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.read_with(out, |_| {})
    }
}

/// A writer's bytes as a stream of results.
pub(super) struct StreamWriter {
    sender: mpsc::Sender<Result<Bytes>>,
    buffer: Vec<u8>,
}

impl StreamWriter {
    pub(super) fn new() -> (Self, mpsc::Receiver<Result<Bytes>>) {
        let (sender, receiver) = mpsc::channel(DEPTH);
        (StreamWriter { sender, buffer: Vec::with_capacity(CHUNK) }, receiver)
    }

    fn push(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(Ok(Bytes::from(full))).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Ends the stream: with what is left, or with the error.
    pub(super) fn end(mut self, result: Result<()>) {
        let last = result.and_then(|()| self.push().map_err(ImageError::from));
        if let Err(error) = last {
            // A receiver that is gone needs no error.
            let _ = self.sender.blocking_send(Err(error));
        }
    }
}

impl Write for StreamWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + data.len() > CHUNK {
            self.push()?;
        }
        self.buffer.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_finished_stream_ends_well() {
        let read = |mut reader: FeedReader| {
            tokio::task::spawn_blocking(move || {
                let mut all = String::new();
                reader.read_to_string(&mut all).map(|_| all)
            })
        };
        let (feed, reader) = super::feed();
        let reading = read(reader);
        feed.copy(&b"whole"[..]).await.expect("copy");
        assert_eq!(reading.await.expect("join").expect("read"), "whole");

        let (feed, reader) = super::feed();
        let reading = read(reader);
        feed.send(Bytes::from_static(b"half")).await.expect("send");
        drop(feed);
        assert!(reading.await.expect("join").is_err());
    }
}

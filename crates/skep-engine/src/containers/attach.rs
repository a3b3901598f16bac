//! Attaching to a container, before its start too: then the client waits here until there is a shim to attach to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

use crate::model::request::Attachment;
use crate::shim::AttachStream;
use crate::{Error, Result};

/// The keys that detach when the client names none: Ctrl-P, Ctrl-Q.
const DEFAULT_KEYS: &[u8] = &[16, 17];

/// Reads `ctrl-p,ctrl-q`, `a,b`, `ctrl-[`: single characters, or control keys. An empty text turns detaching off. `what` names
/// the keys in the error, as Docker does: `detach` or `escape`.
pub(crate) fn parse_detach_keys(text: Option<&str>, what: &str) -> Result<Vec<u8>> {
    let Some(text) = text else { return Ok(DEFAULT_KEYS.to_vec()) };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let invalid = || Error::Invalid(format!("Invalid {what} keys ({text}) provided"));
    text.split(',')
        .map(|key| match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
            ([single], _) => Ok(*single),
            (_, Some([letter @ b'a'..=b'z'])) => Ok(letter - b'a' + 1),
            (_, Some(b"@")) => Ok(0),
            (_, Some(b"[")) => Ok(27),
            (_, Some(b"\\")) => Ok(28),
            (_, Some(b"]")) => Ok(29),
            (_, Some(b"^")) => Ok(30),
            (_, Some(b"_")) => Ok(31),
            _ => Err(invalid()),
        })
        .collect()
}

/// One half of a stream that may come later.
enum Late<T> {
    Waiting(oneshot::Receiver<T>),
    Here(T),
    /// It will never come, or was closed.
    Gone,
}

impl<T: Unpin> Late<T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<&mut T>> {
        if let Late::Waiting(receiver) = self {
            *self = match ready!(Pin::new(receiver).poll(cx)) {
                Ok(half) => Late::Here(half),
                Err(_) => Late::Gone,
            };
        }
        Poll::Ready(match self {
            Late::Here(half) => Some(half),
            Late::Waiting(_) | Late::Gone => None,
        })
    }
}

/// What the owner task gives a waiting client once the shim is there.
pub(crate) struct Binding {
    read: oneshot::Sender<OwnedReadHalf>,
    write: Option<oneshot::Sender<OwnedWriteHalf>>,
}

impl Binding {
    pub(crate) fn bind(self, stream: AttachStream) {
        let (read, write) = stream.into_split();
        // A client that has gone meanwhile is no error: its halves are dropped, and with them the connection.
        let _ = self.read.send(read);
        if let Some(sender) = self.write {
            let _ = sender.send(write);
        }
    }
}

struct Output {
    half: Late<OwnedReadHalf>,
    /// Fires when the client typed the detach keys.
    detached: Option<oneshot::Receiver<()>>,
    /// Fires, or is dropped, when the end of the process is known. Nobody is to see the end of its output before that: who does asks how
    /// it ended.
    ended: Option<oneshot::Receiver<()>>,
}

struct Input {
    half: Late<OwnedWriteHalf>,
    keys: Vec<u8>,
    /// How many of the keys have been typed so far; they are held back.
    matched: usize,
    detach: Option<oneshot::Sender<()>>,
    /// Bytes taken from the client that the process has not taken yet.
    waiting: Vec<u8>,
}

/// An attachment whose stream comes later, and the way to bring it. `keys` is empty where detaching is off.
pub(crate) fn late(tty: bool, stdin: bool, keys: Vec<u8>) -> (Attachment, Binding) {
    until(tty, stdin, keys, None)
}

fn until(tty: bool, stdin: bool, keys: Vec<u8>, ended: Option<oneshot::Receiver<()>>) -> (Attachment, Binding) {
    let (read, read_receiver) = oneshot::channel();
    let (write, write_receiver) = oneshot::channel();
    let (detach, detached) = oneshot::channel();
    let input =
        Input { half: Late::Waiting(write_receiver), keys, matched: 0, detach: Some(detach), waiting: Vec::new() };
    let attachment = Attachment {
        tty,
        output: Box::pin(Output { half: Late::Waiting(read_receiver), detached: stdin.then_some(detached), ended }),
        input: stdin.then(|| Box::pin(input) as Pin<Box<dyn AsyncWrite + Send>>),
    };
    (attachment, Binding { read, write: stdin.then_some(write) })
}

/// An attachment to a stream that is there, whose output ends after `ended`.
pub(crate) fn now(
    tty: bool,
    stdin: bool,
    keys: Vec<u8>,
    stream: AttachStream,
    ended: oneshot::Receiver<()>,
) -> Attachment {
    let (attachment, binding) = until(tty, stdin, keys, Some(ended));
    binding.bind(stream);
    attachment
}

impl AsyncRead for Output {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(detached) = &mut self.detached {
            match Pin::new(detached).poll(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                // The input half is gone without having detached.
                Poll::Ready(Err(_)) => self.detached = None,
                Poll::Pending => {}
            }
        }
        let before = buf.filled().len();
        if let Some(half) = ready!(self.half.poll(cx)) {
            ready!(Pin::new(half).poll_read(cx, buf))?;
        }
        if buf.filled().len() == before
            && let Some(ended) = &mut self.ended
        {
            let _ = ready!(Pin::new(ended).poll(cx)); // dropped is as good
            self.ended = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl Input {
    fn flush_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let Some(half) = ready!(self.half.poll(cx)) else {
                self.waiting.clear();
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            let written = ready!(Pin::new(half).poll_write(cx, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Puts what the process should get of `bytes` into `waiting`; tells whether the keys were typed to the end.
    fn take(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return true;
                }
                continue;
            }
            let held = std::mem::take(&mut self.matched);
            self.waiting.extend_from_slice(&self.keys[..held]);
            if self.keys.first() == Some(&byte) {
                self.matched = 1;
            } else {
                self.waiting.push(byte);
            }
        }
        false
    }
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.flush_waiting(cx))?;
        if self.take(buf) {
            if let Some(detach) = self.detach.take() {
                let _ = detach.send(());
            }
            self.waiting.clear();
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // What does not go out at once waits for the next call; the client's bytes are taken in any case.
        match self.flush_waiting(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flush_waiting(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.flush_waiting(cx))?;
        match ready!(self.half.poll(cx)) {
            Some(half) => Pin::new(half).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn detach_keys_are_read() {
        assert_eq!(parse_detach_keys(None, "detach").expect("default"), [16, 17]);
        assert_eq!(parse_detach_keys(Some("a,ctrl-x,ctrl-["), "detach").expect("good"), [b'a', 24, 27]);
        assert!(parse_detach_keys(Some(""), "detach").expect("off").is_empty());
        for bad in ["ctrl-", "ab", "ctrl-A", "ctrl-p,"] {
            assert!(parse_detach_keys(Some(bad), "detach").is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn keys_held_back_are_passed_on_when_they_lead_nowhere() {
        let (ours, theirs) = tokio::net::UnixStream::pair().expect("a pair");
        let (attachment, binding) = late(true, true, DEFAULT_KEYS.to_vec());
        let (read, write) = ours.into_split();
        let _ = binding.read.send(read);
        let _ = binding.write.expect("stdin").send(write);
        let mut input = attachment.input.expect("stdin");
        let mut output = attachment.output;
        input.write_all(b"a\x10b").await.expect("written");
        input.flush().await.expect("flushed");
        let (mut theirs_read, _theirs_write) = theirs.into_split();
        let mut got = [0u8; 3];
        theirs_read.read_exact(&mut got).await.expect("read");
        assert_eq!(&got, b"a\x10b");
        assert!(input.write_all(b"\x10\x11").await.is_err(), "detached");
        let mut rest = Vec::new();
        output.read_to_end(&mut rest).await.expect("the output ends");
        assert!(rest.is_empty());
    }
}

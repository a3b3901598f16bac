//! Streams of bytes as calls.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::grpc::io_error;

/// Bytes of one message: fsutil's and ssh's pieces are as large, and a message may have 16 MiB at most.
pub(crate) const PIECE: usize = 32 << 10;

/// Messages that wait to be sent.
pub(crate) const AHEAD: usize = 16;

/// A message that is nothing but bytes. Each service has its own type of them.
pub(crate) trait Piece: Send + 'static {
    fn bytes(self) -> Vec<u8>;
    fn of(bytes: Vec<u8>) -> Self;
}

macro_rules! piece {
    ($($message:path),*) => {$(
        impl Piece for $message {
            fn bytes(self) -> Vec<u8> {
                self.data
            }

            fn of(data: Vec<u8>) -> Self {
                Self { data }
            }
        }
    )*};
}

piece!(
    crate::proto::moby::filesync::v1::BytesMessage,
    crate::proto::moby::sshforward::v1::BytesMessage,
    crate::proto::moby::upload::v1::BytesMessage,
    crate::proto::moby::buildkit::v1::BytesMessage
);

/// Reads the bytes of messages.
pub(crate) struct Reader<S> {
    messages: S,
    rest: Bytes,
}

impl<S> Reader<S> {
    pub(crate) fn new(messages: S) -> Self {
        Reader { messages, rest: Bytes::new() }
    }
}

impl<S, M> AsyncRead for Reader<S>
where
    S: Stream<Item = Result<M, tonic::Status>> + Unpin,
    M: Piece,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match std::task::ready!(self.messages.poll_next_unpin(context)) {
                Some(message) => self.rest = message.map_err(io_error)?.bytes().into(),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

/// Sends bytes as messages.
pub(crate) struct Writer<M: Send>(PollSender<M>);

impl<M: Piece> Writer<M> {
    /// A writer, and the messages that come of what is written.
    pub(crate) fn new() -> (Self, mpsc::Receiver<M>) {
        let (sender, receiver) = mpsc::channel(AHEAD);
        (Writer(PollSender::new(sender)), receiver)
    }
}

impl<M: Piece> AsyncWrite for Writer<M> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        std::task::ready!(self.0.poll_reserve(context)).map_err(gone)?;
        let length = bytes.len().min(PIECE);
        self.0.send_item(M::of(bytes[..length].to_vec())).map_err(gone)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.close();
        Poll::Ready(Ok(()))
    }
}

/// Both directions of a call as one stream.
pub(crate) struct Both<R, W> {
    pub(crate) read: R,
    pub(crate) write: W,
}

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for Both<R, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(context, buffer)
    }
}

impl<R: Unpin, W: AsyncWrite + Unpin> AsyncWrite for Both<R, W> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(context)
    }
}

/// A connection inside a call of `Control.Session`: both directions of its bytes, and what is answered.
pub fn over_call(
    messages: tonic::Streaming<crate::proto::moby::buildkit::v1::BytesMessage>,
) -> (
    impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    impl Stream<Item = Result<crate::proto::moby::buildkit::v1::BytesMessage, tonic::Status>> + Send + 'static,
) {
    let (write, answers) = Writer::new();
    let answers = tokio_stream::wrappers::ReceiverStream::new(answers).map(Ok);
    (Both { read: Reader::new(messages), write }, answers)
}

type Answer = Pin<Box<dyn Future<Output = Result<(), tonic::Status>> + Send>>;

/// Writes a file of the client. A shutdown returns when the client has it.
pub struct SendFile {
    writer: Option<Writer<crate::proto::moby::filesync::v1::BytesMessage>>,
    answer: Option<Answer>,
}

impl SendFile {
    pub(crate) fn new(writer: Writer<crate::proto::moby::filesync::v1::BytesMessage>, answer: Answer) -> Self {
        SendFile { writer: Some(writer), answer: Some(answer) }
    }

    /// Lets the call go on; an error once it has ended.
    fn drive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(answer) = self.answer.as_mut() else { return Poll::Ready(Ok(())) };
        let result = std::task::ready!(answer.as_mut().poll(context));
        self.answer = None;
        Poll::Ready(result.map_err(io_error))
    }
}

impl AsyncWrite for SendFile {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(ended) = self.drive(context) {
            ended?;
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::BrokenPipe)));
        }
        match self.writer.as_mut() {
            Some(writer) => Pin::new(writer).poll_write(context, bytes),
            None => Poll::Ready(Err(io::Error::from(io::ErrorKind::BrokenPipe))),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.drive(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer = None;
        self.drive(context)
    }
}

//! What a step writes, on its way to whoever shows it.

use bytes::{Buf, Bytes, BytesMut};
use chrono::Utc;
use skep_build::event::{BuildEvent, Events, VertexId};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes in front of each piece: the stream, three zeros, the length.
const HEADER: usize = 8;
const BUFFER: usize = 64 * 1024;

/// What a program writes, piece by piece.
pub struct Pieces<R> {
    from: R,
    buffer: BytesMut,
    /// What is still to come of a piece: its stream and its bytes.
    left: Option<(u8, usize)>,
    /// Without frames everything is standard output: that of a terminal.
    framed: bool,
}

impl<R: AsyncRead + Unpin> Pieces<R> {
    pub(super) fn new(from: R, framed: bool) -> Self {
        Pieces { from, buffer: BytesMut::with_capacity(BUFFER), left: None, framed }
    }

    /// The next piece with its stream (1 or 2); none when the program has written all. Safe to cancel.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> std::io::Result<Option<(u8, Bytes)>> {
        loop {
            match self.framed {
                true => match self.framed_piece() {
                    None => {}
                    piece => return Ok(piece),
                },
                false if self.buffer.is_empty() => {}
                false => return Ok(Some((1, self.buffer.split().freeze()))),
            }
            self.buffer.reserve(BUFFER / 4);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// A piece in the buffer, or what is there of it. Empty pieces say nothing.
    fn framed_piece(&mut self) -> Option<(u8, Bytes)> {
        let buffer = &mut self.buffer;
        loop {
            let (stream, length) = match self.left.take() {
                Some(piece) => piece,
                None if buffer.len() < HEADER => return None,
                None => {
                    let stream = buffer[0];
                    let length = u32::from_be_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]);
                    buffer.advance(HEADER);
                    (stream, usize::try_from(length).unwrap_or(usize::MAX))
                }
            };
            let count = length.min(buffer.len());
            self.left = (length > count).then_some((stream, length - count));
            if count > 0 {
                return Some((stream, buffer.split_to(count).freeze()));
            }
            if self.left.is_some() {
                return None;
            }
        }
    }
}

/// Hands on what a step writes until it has written all. One that is read slowly writes slowly.
pub(super) async fn pump(from: impl AsyncRead + Unpin, events: &Events, vertex: VertexId) -> std::io::Result<()> {
    let mut pieces = Pieces::new(from, true);
    while let Some(piece) = pieces.next().await? {
        tell(events, vertex, piece).await;
    }
    Ok(())
}

/// Tells of output. Nobody has to listen.
pub(super) async fn tell(events: &Events, vertex: VertexId, (stream, data): (u8, Bytes)) {
    let _ = events.send(BuildEvent::Log { vertex, stream, data, at: Utc::now() }).await;
}

#[cfg(test)]
mod tests {
    use skep_types::Digest;

    use super::*;

    #[tokio::test]
    async fn pieces_are_told_by_their_streams_however_they_come() {
        let mut bytes = Vec::new();
        for (stream, text) in [(1u8, "one\n"), (2, ""), (2, "two\n"), (1, "three")] {
            bytes.extend_from_slice(&[stream, 0, 0, 0]);
            bytes.extend_from_slice(&u32::try_from(text.len()).expect("short").to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        for size in [1, 3, 9, 100] {
            let (events, mut told) = tokio::sync::mpsc::channel(100);
            let (reader, mut writer) = tokio::io::duplex(size);
            let all = bytes.clone();
            let writing = tokio::spawn(async move {
                tokio::io::AsyncWriteExt::write_all(&mut writer, &all).await.expect("written");
            });
            pump(reader, &events, VertexId(Digest::from_bytes([0; 32]))).await.expect("pumped");
            writing.await.expect("written");
            drop(events);
            let mut text = [String::new(), String::new()];
            while let Some(BuildEvent::Log { stream, data, .. }) = told.recv().await {
                text[usize::from(stream) - 1] += &String::from_utf8_lossy(&data);
            }
            assert_eq!(text, ["one\nthree", "two\n"], "{size}");
        }
    }
}

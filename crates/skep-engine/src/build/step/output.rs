//! What a step writes, on its way to whoever shows it.

use bytes::{Buf, Bytes, BytesMut};
use chrono::Utc;
use skep_build::event::{BuildEvent, Events, VertexId};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes in front of each piece: the stream, three zeros, the length.
const HEADER: usize = 8;
const BUFFER: usize = 64 * 1024;

/// Hands on what a step writes until it has written all. One that is read slowly writes slowly.
pub(super) async fn pump(mut from: impl AsyncRead + Unpin, events: &Events, vertex: VertexId) -> std::io::Result<()> {
    let mut buffer = BytesMut::with_capacity(BUFFER);
    let mut left: Option<(u8, usize)> = None;
    loop {
        buffer.reserve(BUFFER / 4);
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        while let Some(piece) = next(&mut buffer, &mut left) {
            tell(events, vertex, piece).await;
        }
    }
}

/// The next piece of output in the buffer, or what is there of it. Empty pieces say nothing.
fn next(buffer: &mut BytesMut, left: &mut Option<(u8, usize)>) -> Option<(u8, Bytes)> {
    loop {
        let (stream, length) = match left.take() {
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
        *left = (length > count).then_some((stream, length - count));
        if count > 0 {
            return Some((stream, buffer.split_to(count).freeze()));
        }
        if left.is_some() {
            return None;
        }
    }
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

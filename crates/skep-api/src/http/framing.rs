//! How output of a process without a terminal is told apart: frames of 8 bytes (stream, three zeros, length as a
//! big-endian u32) and payload, Docker's `stdcopy`.

use bytes::{BufMut, Bytes, BytesMut};
use skep_engine::model::request::OutputStream;

/// Media type of framed output, from v1.42 on.
pub(crate) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// Media type of a terminal's output, and below v1.42 of all output.
pub(crate) const RAW: &str = "application/vnd.docker.raw-stream";

/// Puts `parts` one after the other into a frame. Longer than 4 GiB is cut.
pub(crate) fn frame(stream: OutputStream, parts: &[&[u8]]) -> Bytes {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut frame = BytesMut::with_capacity(8 + length);
    frame.put_u8(match stream {
        OutputStream::Stdout => 1,
        OutputStream::Stderr => 2,
    });
    frame.put_slice(&[0; 3]);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    parts.iter().for_each(|part| frame.put_slice(part));
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_header_and_payload() {
        assert_eq!(&frame(OutputStream::Stderr, &[b"ab", b"c"])[..], b"\x02\0\0\0\0\0\0\x03abc");
        assert_eq!(&frame(OutputStream::Stdout, &[])[..], b"\x01\0\0\0\0\0\0\0");
    }
}

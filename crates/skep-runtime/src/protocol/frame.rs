//! Frames: the length of the JSON text as u32 little-endian, then the text.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest text taken. An exec's environment is the only thing that can get long, and the kernel takes 2 MiB of it.
pub const MAX_LENGTH: usize = 8 << 20;

const HEADER: usize = 4;

/// Bytes that are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A length beyond [`MAX_LENGTH`].
    #[error("message of {0} bytes is too long")]
    TooLong(usize),
    /// A text that is not the message expected.
    #[error("message not understood: {0}")]
    Json(#[from] serde_json::Error),
}

/// `message` as a frame.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; HEADER];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - HEADER;
    match u32::try_from(length) {
        Ok(short) if length <= MAX_LENGTH => bytes[..HEADER].copy_from_slice(&short.to_le_bytes()),
        _ => return Err(FrameError::TooLong(length)),
    }
    Ok(bytes)
}

/// The first message in `bytes` and how many bytes it takes; `None` if it is not complete yet.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<(T, usize)>, FrameError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    let length = u32::from_le_bytes(*header) as usize;
    if length > MAX_LENGTH {
        return Err(FrameError::TooLong(length));
    }
    match rest.get(..length) {
        Some(text) => Ok(Some((serde_json::from_slice(text)?, HEADER + length))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Request;

    #[test]
    fn frames_come_back_whole_or_not_at_all() {
        let mut bytes = encode(&Request::Start).expect("encode");
        let first = bytes.len();
        bytes.extend(encode(&Request::Subscribe).expect("encode"));
        for cut in 0..first {
            assert!(decode::<Request>(&bytes[..cut]).expect("no error").is_none());
        }
        let (message, length) = decode::<Request>(&bytes).expect("valid").expect("whole");
        assert_eq!((message, length), (Request::Start, first));
    }

    #[test]
    fn refuses_absurd_lengths_and_other_text() {
        assert!(matches!(decode::<Request>(&[0xff; 8]), Err(FrameError::TooLong(_))));
        assert!(matches!(decode::<Request>(b"\x02\0\0\0{}"), Err(FrameError::Json(_))));
    }
}

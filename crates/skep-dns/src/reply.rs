//! Answers of other servers, which are passed on as they are.

use crate::name::{Name, skip};
use crate::query::HEADER;

/// Whether a message is the answer to the one that was sent: the same id, and the same question. Servers that could not even read
/// the question may leave it out of their refusal.
pub fn is_reply_to(reply: &[u8], sent: &[u8]) -> bool {
    let (Some(head), Some(sent_head)) = (reply.first_chunk::<HEADER>(), sent.first_chunk::<HEADER>()) else {
        return false;
    };
    let is_response = head[2] & 0x80 != 0;
    if head[..2] != sent_head[..2] || !is_response || head[2] & 0x78 != sent_head[2] & 0x78 {
        return false;
    }
    match (head[4], head[5]) {
        (0, 0) => head[3] & 0xf != 0 && head[6..12] == [0; 6],
        (0, 1) => match (question(reply), question(sent)) {
            (Some(theirs), Some(ours)) => theirs.eq_ignore_ascii_case(ours),
            _ => false,
        },
        _ => false,
    }
}

/// The bytes of the question.
fn question(message: &[u8]) -> Option<&[u8]> {
    Name::read(message, HEADER)?;
    let end = skip(message, HEADER)? + 4;
    message.get(HEADER..end)
}

/// The code that says how it went.
pub fn rcode_of(message: &[u8]) -> Option<u8> {
    message.get(3).map(|byte| byte & 0xf)
}

/// Whether the rest is to be had over TCP.
pub fn is_truncated(message: &[u8]) -> bool {
    message.get(2).is_some_and(|byte| byte & 0x02 != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::query::tests::message;

    fn reply(to: &[u8]) -> Vec<u8> {
        let mut bytes = to.to_vec();
        bytes[2] |= 0x80;
        bytes
    }

    #[test]
    fn only_the_answer_to_what_was_asked() {
        let sent = message(99, "web.example", 1, Some(1232));
        assert!(is_reply_to(&reply(&sent), &sent));
        assert!(is_reply_to(&reply(&message(99, "WEB.example", 1, None)), &sent), "servers may change the case");
        for other in [
            sent.clone(),
            reply(&message(98, "web.example", 1, None)),
            reply(&message(99, "web.example", 28, None)),
            reply(&message(99, "evil.example", 1, None)),
            reply(&sent)[..20].to_vec(),
            Vec::new(),
        ] {
            assert!(!is_reply_to(&other, &sent), "{other:?}");
        }
        let refusal = [0, 99, 0x81, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(is_reply_to(&refusal, &sent));
        let empty = [0, 99, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(!is_reply_to(&empty, &sent), "an answer without a question is none");
    }

    proptest! {
        #[test]
        fn any_bytes_are_compared(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            is_reply_to(&bytes, &message(99, "web.example", 1, None));
        }
    }
}

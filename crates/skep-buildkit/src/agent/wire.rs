//! Values as ssh writes them (RFC 4251 §5).

/// Reads values one after the other; none where they end too early.
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

impl<'b> Reader<'b> {
    pub(super) fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    pub(super) fn string(&mut self) -> Option<&'b [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// A positive number without the zeros in front of it.
    pub(super) fn integer(&mut self) -> Option<&'b [u8]> {
        self.string().map(trimmed)
    }
}

/// A number without the zeros in front of it.
pub(super) fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

pub(super) fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    // Nothing here comes near the limit.
    out.extend(u32::try_from(string.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(string);
}

/// A positive number: with a zero in front where it would look negative.
pub(super) fn put_integer(out: &mut Vec<u8>, number: &[u8]) {
    let number = trimmed(number);
    let sign: &[u8] = if number.first().is_some_and(|byte| *byte >= 0x80) { &[0] } else { &[] };
    put_string(out, &[sign, number].concat());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let mut bytes = Vec::new();
        put_string(&mut bytes, b"abc");
        put_integer(&mut bytes, &[0, 0, 0x80, 1]);
        assert_eq!(bytes[7..], [0, 0, 0, 3, 0, 0x80, 1]);
        let mut reader = Reader(&bytes);
        assert_eq!(
            (reader.string(), reader.integer(), reader.number()),
            (Some(&b"abc"[..]), Some(&[0x80, 1][..]), None)
        );
    }
}

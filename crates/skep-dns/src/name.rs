//! Domain names: labels with their lengths on the wire, dots in text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name on the wire, its closing zero included (RFC 1035, 2.3.4).
const LONGEST: usize = 255;
const LONGEST_LABEL: u8 = 63;
/// The two bits that make a length a pointer.
const POINTER: u8 = 0xc0;

/// A name as it stands on the wire, without compression: lengths and labels, closed by a zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    wire: Vec<u8>,
}

impl Name {
    /// Reads the name at `at`, and says where it ends. A compression pointer is refused: the first name of a message has nothing that
    /// it could point to.
    pub(crate) fn read(bytes: &[u8], at: usize) -> Option<(Name, usize)> {
        let mut end = at;
        loop {
            let length = *bytes.get(end)?;
            if length > LONGEST_LABEL {
                return None;
            }
            end += 1 + usize::from(length);
            if end - at > LONGEST {
                return None;
            }
            if length == 0 {
                return Some((Name { wire: bytes.get(at..end)?.to_vec() }, end));
            }
        }
    }

    /// A name of text with dots; one at the end makes no difference. None if it is too long or has an empty label.
    pub fn from_text(text: &str) -> Option<Name> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.').filter(|_| !text.is_empty()) {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=LONGEST_LABEL).contains(length))?;
            wire.push(length);
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        (wire.len() <= LONGEST).then_some(Name { wire })
    }

    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.wire.as_slice();
        std::iter::from_fn(move || {
            let (&length, after) = rest.split_first().filter(|(length, _)| **length > 0)?;
            let (label, after) = after.split_at_checked(usize::from(length))?;
            rest = after;
            Some(label)
        })
    }

    /// The text in lower case, without a dot at the end. None for names that no container can have: the root, and those with dots,
    /// blanks or control characters inside a label, or that are not UTF-8.
    pub fn text(&self) -> Option<String> {
        let mut text = Vec::with_capacity(self.wire.len());
        for label in self.labels() {
            if label.iter().any(|&c| c <= b' ' || c == b'.' || c == 0x7f) {
                return None;
            }
            if !text.is_empty() {
                text.push(b'.');
            }
            text.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        if text.is_empty() { None } else { String::from_utf8(text).ok() }
    }

    /// The address of which this is the reverse name, as in `2.0.17.172.in-addr.arpa`.
    pub fn reversed_address(&self) -> Option<IpAddr> {
        let text = self.text()?;
        if let Some(digits) = text.strip_suffix(".in-addr.arpa") {
            let mut octets = [0; 4];
            let mut parts = digits.split('.');
            for octet in octets.iter_mut().rev() {
                *octet = parts.next()?.parse().ok()?;
            }
            return parts.next().is_none().then_some(IpAddr::V4(Ipv4Addr::from(octets)));
        }
        let digits = text.strip_suffix(".ip6.arpa")?;
        let mut bits = 0u128;
        let mut count = 0;
        for digit in digits.split('.').rev() {
            let [character] = digit.as_bytes() else { return None };
            bits = bits << 4 | u128::from(char::from(*character).to_digit(16)?);
            count += 1;
        }
        (count == 32).then_some(IpAddr::V6(Ipv6Addr::from(bits)))
    }
}

/// Where the name at `at` ends. A pointer ends it, wherever it leads.
pub(crate) fn skip(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=LONGEST_LABEL => at += 1 + usize::from(length),
            POINTER.. => return bytes.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_wire() {
        let name = Name::from_text("Web.Front.").unwrap();
        assert_eq!(name.wire(), b"\x03Web\x05Front\0");
        assert_eq!(name.text().as_deref(), Some("web.front"));
        assert_eq!(Name::read(name.wire(), 0), Some((name.clone(), 11)));
        assert_eq!(Name::from_text("").unwrap().wire(), [0]);
        for bad in ["a..b", ".a", &"x".repeat(64), &"abcd.".repeat(60)] {
            assert_eq!(Name::from_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_that_nobody_can_have() {
        for wire in [&b"\0"[..], b"\x03a.b\0", b"\x03a b\0", b"\x02a\n\0", b"\x02\xff\xfe\0"] {
            assert_eq!(Name::read(wire, 0).unwrap().0.text(), None, "{wire:?}");
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        for wire in [&b""[..], b"\x03ab", b"\x40", b"\xc0\x00", b"\x03web", b"\x01a\xc0\x0c"] {
            assert_eq!(Name::read(wire, 0), None, "{wire:?}");
        }
        assert_eq!(Name::read(&[1; 600], 0), None, "longer than any name");
        assert_eq!(skip(b"\xc0\x00", 0), Some(2), "a pointer is passed over, also one to itself");
        assert_eq!(skip(b"\xc0", 0), None);
        assert_eq!(skip(b"\x80\x00", 0), None);
    }

    #[test]
    fn reverse_names() {
        let of = |text: &str| Name::from_text(text).unwrap().reversed_address();
        assert_eq!(of("2.0.17.172.in-addr.arpa"), Some("172.17.0.2".parse().unwrap()));
        let six = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.F.ip6.arpa";
        assert_eq!(of(six), Some("fd00::2".parse().unwrap()));
        for bad in
            ["0.17.172.in-addr.arpa", "1.2.0.17.172.in-addr.arpa", "a.0.17.172.in-addr.arpa", "2.0.ip6.arpa", "web"]
        {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}

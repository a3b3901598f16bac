//! Values of which only some bits are known, such as the address of any host of a subnet.

use std::net::IpAddr;

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    /// For every packet that is meant.
    Yes,
    /// For none.
    No,
    /// For some of them, or it can't be told.
    Open,
}

impl Truth {
    pub(super) fn of(known: bool) -> Truth {
        if known { Truth::Yes } else { Truth::No }
    }

    pub(super) fn not(self) -> Truth {
        match self {
            Truth::Yes => Truth::No,
            Truth::No => Truth::Yes,
            Truth::Open => Truth::Open,
        }
    }

    pub(super) fn and(self, other: Truth) -> Truth {
        match (self, other) {
            (Truth::No, _) | (_, Truth::No) => Truth::No,
            (Truth::Yes, Truth::Yes) => Truth::Yes,
            _ => Truth::Open,
        }
    }
}

/// Bytes, and which of their bits are known. Bits that are not are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) bits: Vec<u8>,
    pub(super) known: Vec<u8>,
}

impl Value {
    pub(super) fn exact(bytes: &[u8]) -> Value {
        Value { bits: bytes.to_vec(), known: vec![0xff; bytes.len()] }
    }

    pub(super) fn unknown(length: usize) -> Value {
        Value { bits: vec![0; length], known: vec![0; length] }
    }

    /// An address of the subnet that `address` and its first `prefix` bits make.
    pub(super) fn address(address: IpAddr, prefix: u8) -> Value {
        let bytes = match address {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let known: Vec<u8> = (0..bytes.len()).map(|n| mask_byte(usize::from(prefix), n)).collect();
        Value { bits: bytes.iter().zip(&known).map(|(b, k)| b & k).collect(), known }
    }

    /// The address, if all of it is known.
    pub(super) fn as_address(&self) -> Option<IpAddr> {
        if self.known.iter().any(|k| *k != 0xff) {
            return None;
        }
        let four = <[u8; 4]>::try_from(self.bits.as_slice()).map(IpAddr::from);
        four.or_else(|_| <[u8; 16]>::try_from(self.bits.as_slice()).map(IpAddr::from)).ok()
    }

    pub(super) fn masked(&self, mask: &[u8], xor: &[u8]) -> Value {
        let at = |bytes: &[u8], n: usize| bytes.get(n).copied().unwrap_or_default();
        let known: Vec<u8> = (0..self.bits.len()).map(|n| self.known[n] | !at(mask, n)).collect();
        let bits = (0..self.bits.len()).map(|n| ((self.bits[n] & at(mask, n)) ^ at(xor, n)) & known[n]).collect();
        Value { bits, known }
    }

    /// Whether the value begins with `other`.
    pub(super) fn equals(&self, other: &[u8]) -> Truth {
        let mut open = other.len() > self.bits.len();
        for ((bits, known), wanted) in self.bits.iter().zip(&self.known).zip(other) {
            if bits & known != wanted & known {
                return Truth::No;
            }
            open |= *known != 0xff;
        }
        if open { Truth::Open } else { Truth::Yes }
    }

    /// Whether the value, as a number in network order, is one of `first` to `last`.
    pub(super) fn within(&self, first: &[u8], last: &[u8]) -> Truth {
        let lowest = &self.bits;
        let highest: Vec<u8> = self.bits.iter().zip(&self.known).map(|(b, k)| b | !k).collect();
        if highest.as_slice() < first || lowest.as_slice() > last {
            Truth::No
        } else if lowest.as_slice() >= first && highest.as_slice() <= last {
            Truth::Yes
        } else {
            Truth::Open
        }
    }
}

/// The `n`th byte of a mask of `prefix` ones.
fn mask_byte(prefix: usize, n: usize) -> u8 {
    match prefix.saturating_sub(n * 8) {
        0 => 0,
        bits @ 1..8 => u8::MAX << (8 - bits),
        _ => u8::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_subnet_decides_what_can_be_decided() {
        let lan = Value::address("192.0.2.0".parse().unwrap(), 24);
        assert_eq!(lan.equals(&[192, 0, 2, 7]), Truth::Open);
        assert_eq!(lan.equals(&[192, 0, 3, 7]), Truth::No);
        let net = |mask: &[u8]| lan.masked(mask, &[0; 4]);
        assert_eq!(net(&[255, 255, 0, 0]).equals(&[192, 0, 0, 0]), Truth::Yes);
        assert_eq!(net(&[255, 255, 255, 128]).equals(&[192, 0, 2, 128]), Truth::Open);
        assert_eq!(lan.within(&[192, 0, 2, 0], &[192, 0, 2, 255]), Truth::Yes);
        assert_eq!(lan.within(&[192, 0, 2, 9], &[192, 0, 9, 255]), Truth::Open);
        assert_eq!(lan.within(&[10, 0, 0, 0], &[10, 255, 255, 255]), Truth::No);
        assert_eq!(Value::exact(&[10, 0, 0, 1]).as_address(), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(lan.as_address(), None);
    }
}

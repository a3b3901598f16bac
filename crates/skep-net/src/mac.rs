//! Hardware addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `02:42:` and the four bytes of `ip`: unique on its network, and the same again for the same address, so that
    /// neighbours' caches stay right.
    pub fn for_ip(ip: Ipv4Addr) -> Self {
        MacAddr::local(ip.octets())
    }

    /// `02:42:` and four bytes: an address that is administered locally.
    pub(crate) fn local([a, b, c, d]: [u8; 4]) -> Self {
        MacAddr([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is not a hardware address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address: {0}")]
pub struct MacAddrError(String);

impl FromStr for MacAddr {
    type Err = MacAddrError;

    fn from_str(text: &str) -> Result<Self, MacAddrError> {
        let bad = || MacAddrError(text.to_owned());
        // 02:42:ac:11:00:02 and 02-42-ac-11-00-02, or 0242.ac11.0002.
        let (digits, separators) = if text.contains('.') { (4, ['.'; 2]) } else { (2, [':', '-']) };
        let mut all = String::with_capacity(12);
        for group in text.split(separators) {
            if group.len() != digits || !group.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(bad());
            }
            all.push_str(group);
        }
        let number = u64::from_str_radix(&all, 16).ok().filter(|_| all.len() == 12).ok_or_else(bad)?;
        let [_, _, bytes @ ..] = number.to_be_bytes();
        Ok(MacAddr(bytes))
    }
}

impl Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_parse_and_print() {
        let mac = MacAddr::for_ip(Ipv4Addr::new(172, 17, 0, 2));
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02:42:ac:11:00:02".parse(), Ok(mac));
        assert_eq!("02-42-AC-11-00-02".parse(), Ok(mac));
        assert_eq!("0242.ac11.0002".parse(), Ok(mac));
        for bad in [
            "",
            "02:42",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:0:02",
            "0242.ac11",
            "0242.ac11.0002.0001",
            "02.42.ac.11.00.02",
            "02:42:ac:11:00:zz",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }
}

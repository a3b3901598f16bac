//! Numbers for what has to differ between tests that run at the same time.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

/// A number that no other running test has, in any process. It is free again when this is dropped, or when the process ends in
/// whatever way, as it is a lock on a file.
#[derive(Debug)]
pub struct Slot {
    number: u8,
    _lock: File,
}

/// Numbers become an octet of an address.
const NUMBERS: std::ops::RangeInclusive<u8> = 1..=250;

impl Slot {
    /// The lowest free number.
    pub fn take() -> Slot {
        let dir = PathBuf::from("/run/lock/skep-test");
        std::fs::create_dir_all(&dir).expect("a directory for locks");
        for number in NUMBERS {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(number.to_string()));
            let file = file.expect("a lock file");
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Slot { number, _lock: file };
            }
        }
        panic!("{} tests run at the same time", NUMBERS.len());
    }

    /// The number.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// The name of the test's bridge.
    pub fn bridge(&self) -> String {
        format!("skeptest{}", self.number)
    }

    /// The address of the test's bridge with the length of its prefix.
    pub fn bip(&self) -> String {
        format!("10.213.{}.1/24", self.number)
    }

    /// Where the test's engine cuts subnets from, and of which size: 16 networks of 13 containers.
    pub fn pool(&self) -> String {
        format!("base=10.214.{}.0/24,size=28", self.number)
    }

    /// A subnet for a network of the test, for each of the numbers 0 to 9. Links with addresses in these, in the pool and in the
    /// bridge's subnet are the test's own.
    pub fn subnet(&self, number: u8) -> String {
        format!("10.{}.{}.0/24", 215 + number, self.number)
    }

    /// An address in [`Slot::subnet`].
    pub fn address(&self, number: u8, host: u8) -> String {
        format!("10.{}.{}.{host}", 215 + number, self.number)
    }

    /// An IPv6 subnet for a network of the test.
    pub fn subnet6(&self, number: u8) -> String {
        format!("fd5c:{:x}:{number:x}::/64", self.number)
    }

    /// Whether an IPv4 address is one of the test's.
    pub(crate) fn owns(number: u8, address: std::net::Ipv4Addr) -> bool {
        matches!(address.octets(), [10, 213..=224, third, _] if third == number)
    }

    /// The cgroup above those of the test's containers.
    pub fn cgroup_parent(&self) -> String {
        format!("/skep-test-{}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_at_a_time() {
        let (one, other) = (Slot::take(), Slot::take());
        assert_ne!(one.number(), other.number());
        assert!(one.bridge().len() < 16, "the kernel's limit");
    }
}

//! Capabilities by name and number (capabilities(7), linux/capability.h), and the set that containers get by default.

/// A set of capabilities, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

/// The capabilities of Linux, each at the position of its number.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container gets if nothing is added or dropped: Docker's set.
pub const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The number of a capability. The name may lack `CAP_`, and case does not matter.
pub fn number(name: &str) -> Option<u8> {
    let bare = match name.get(..4) {
        Some(prefix) if prefix.eq_ignore_ascii_case("CAP_") => &name[4..],
        _ => name,
    };
    let position = NAMES.iter().position(|known| known[4..].eq_ignore_ascii_case(bare))?;
    u8::try_from(position).ok()
}

/// The name of a capability, as `CAP_CHOWN`.
pub fn name(number: u8) -> Option<&'static str> {
    NAMES.get(usize::from(number)).copied()
}

/// The names of all capabilities known here, in the order of their numbers.
pub fn all() -> impl Iterator<Item = &'static str> {
    NAMES.iter().copied()
}

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: CapabilitySet = CapabilitySet(0);

    /// All capabilities known here.
    pub fn full() -> CapabilitySet {
        CapabilitySet((1 << NAMES.len()) - 1)
    }

    /// The capabilities of the names, and the names that are of no capability.
    pub fn from_names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> (CapabilitySet, Vec<String>) {
        let mut unknown = Vec::new();
        let mut set = 0;
        for name in names {
            match number(name.as_ref()) {
                Some(number) => set |= 1 << number,
                None => unknown.push(name.as_ref().to_owned()),
            }
        }
        (CapabilitySet(set), unknown)
    }

    /// A set as the kernel writes it in /proc/PID/status and takes it in capset(2).
    pub fn from_bits(bits: u64) -> CapabilitySet {
        CapabilitySet(bits)
    }

    /// The bit at the position of each capability's number.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether the capability of this number is in the set.
    pub fn contains(self, number: u8) -> bool {
        self.0.checked_shr(number.into()).is_some_and(|rest| rest & 1 == 1)
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersection(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 & other.0)
    }

    /// What is in `self` and not in `other`.
    #[must_use]
    pub fn without(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 & !other.0)
    }

    /// The names of the capabilities in the set, in the order of their numbers.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        (0u8..64).filter(move |number| self.contains(*number)).filter_map(name)
    }

    /// What the running kernel has: up to the number in /proc/sys/kernel/cap_last_cap.
    pub fn of_kernel() -> std::io::Result<CapabilitySet> {
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")?;
        let last: u32 = last.trim().parse().map_err(std::io::Error::other)?;
        Ok(CapabilitySet(u64::MAX >> 63u32.saturating_sub(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(number("CAP_CHOWN"), Some(0));
        assert_eq!(number("CAP_SYS_ADMIN"), Some(21));
        assert_eq!(number("CAP_SETFCAP"), Some(31));
        assert_eq!(number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(name(24), Some("CAP_SYS_RESOURCE"));
        assert_eq!(name(41), None);
    }

    #[test]
    fn names_as_people_write_them() {
        assert_eq!(number("net_admin"), Some(12));
        assert_eq!(number("cap_Net_Admin"), Some(12));
        assert_eq!(number("CAP_"), None);
        assert_eq!(number("ALL"), None);
        assert_eq!(number("é"), None);
    }

    #[test]
    fn sets() {
        let (set, unknown) = CapabilitySet::from_names(DEFAULT.iter().copied().chain(["CAP_FROM_THE_FUTURE"]));
        assert_eq!(set.bits(), 0xa804_25fb); // as in /proc/self/status of any Docker container
        assert_eq!(unknown, ["CAP_FROM_THE_FUTURE"]);
        assert_eq!(set.names().count(), DEFAULT.len());
        assert_eq!(CapabilitySet::full().bits(), 0x1ff_ffff_ffff);
        assert!(!set.contains(200));
        assert_eq!(set.without(set), CapabilitySet::EMPTY);
    }

    #[test]
    fn the_running_kernel() {
        let kernel = CapabilitySet::of_kernel().unwrap();
        assert!(kernel.contains(0) && kernel.contains(21) && !kernel.contains(63));
    }
}

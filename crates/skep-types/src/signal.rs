//! Signals by name or number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A signal of Linux on x86-64 and arm64 (signal(7)), 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(u8);

/// A text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}")]
pub struct SignalError(String);

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
const ALIASES: [(&str, u8); 4] = [("IOT", 6), ("POLL", 29), ("CLD", 17), ("UNUSED", 31)];
const REALTIME_MIN: u8 = 34;
const REALTIME_MAX: u8 = 64;

impl Signal {
    /// SIGKILL.
    pub const KILL: Signal = Signal(9);
    /// SIGTERM.
    pub const TERM: Signal = Signal(15);
    /// SIGINT.
    pub const INT: Signal = Signal(2);
    /// SIGHUP.
    pub const HUP: Signal = Signal(1);
    /// SIGCONT.
    pub const CONT: Signal = Signal(18);

    /// The signal's number.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// The signal of that number.
    pub fn from_number(number: i32) -> Option<Self> {
        u8::try_from(number).ok().filter(|n| (1..=REALTIME_MAX).contains(n)).map(Signal)
    }
}

impl FromStr for Signal {
    type Err = SignalError;

    /// Reads `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3`, `RTMAX-1`.
    fn from_str(text: &str) -> Result<Self, SignalError> {
        let error = || SignalError(text.to_owned());
        if let Ok(number) = text.parse::<i32>() {
            return Signal::from_number(number).ok_or_else(error);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let realtime = |rest: &str, sign: &str| match rest {
            "" => Some(0),
            _ => rest.strip_prefix(sign).and_then(|n| n.parse::<u8>().ok()),
        };
        let number = if let Some(rest) = name.strip_prefix("RTMIN") {
            realtime(rest, "+").and_then(|n| REALTIME_MIN.checked_add(n))
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            realtime(rest, "-").and_then(|n| REALTIME_MAX.checked_sub(n)).filter(|&n| n >= REALTIME_MIN)
        } else {
            NAMES
                .iter()
                .zip(1u8..)
                .find_map(|(&known, number)| (known == name).then_some(number))
                .or_else(|| ALIASES.iter().find_map(|&(known, number)| (known == name).then_some(number)))
        };
        number.filter(|&n| n <= REALTIME_MAX).map(Signal).ok_or_else(error)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0) - 1) {
            Some(name) => write!(f, "SIG{name}"),
            None if self.0 == REALTIME_MIN => f.write_str("SIGRTMIN"),
            None if self.0 > REALTIME_MIN => write!(f, "SIGRTMIN+{}", self.0 - REALTIME_MIN),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.0)
    }
}

impl<'de> Deserialize<'de> for Signal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i32::deserialize(deserializer)?;
        Signal::from_number(number).ok_or_else(|| serde::de::Error::custom(format!("no signal {number}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_kill_reads() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("SYS", 31),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("RTMAX-1", 63),
            ("IOT", 6),
        ] {
            assert_eq!(text.parse::<Signal>().map(Signal::number), Ok(number), "{text}");
        }
        for bad in ["", "0", "65", "-1", "SIG", "FOO", "RTMIN+99", "RTMAX-40"] {
            assert!(bad.parse::<Signal>().is_err(), "{bad}");
        }
    }
}

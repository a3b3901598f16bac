//! Times as Go writes them.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time in Go's RFC 3339 form: UTC as `Z`, nanoseconds without trailing zeros. Go's zero time, which stands for
/// "never", is 0001-01-01T00:00:00Z and is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// That time, or "never" for none.
    pub fn or_never(time: Option<DateTime<Utc>>) -> Self {
        time.map_or_else(Timestamp::default, Timestamp)
    }

    /// The time, or none for Go's zero.
    pub fn time(self) -> Option<DateTime<Utc>> {
        (self != Timestamp::default()).then_some(self.0)
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        let day = NaiveDate::from_ymd_opt(1, 1, 1).unwrap_or_default();
        Timestamp(day.and_time(NaiveTime::MIN).and_utc())
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Timestamp(time)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Timestamp(time.into())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%dT%H:%M:%S"))?;
        match self.0.timestamp_subsec_nanos() {
            0 => {}
            nanos => write!(f, ".{}", format!("{:09}", nanos % 1_000_000_000).trim_end_matches('0'))?,
        }
        f.write_str("Z")
    }
}

impl FromStr for Timestamp {
    type Err = chrono::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DateTime::parse_from_rfc3339(text).map(|time| Timestamp(time.with_timezone(&Utc)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Timestamp::default());
        }
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        for text in [
            "2026-11-21T04:11:09.1234Z",
            "2026-11-21T04:11:09Z",
            "2026-11-21T04:11:09.000000001Z",
            "0001-01-01T00:00:00Z",
        ] {
            assert_eq!(text.parse::<Timestamp>().expect(text).to_string(), text);
        }
        assert_eq!(Timestamp::default().to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Timestamp::default().time(), None);
        let other_zone = "2026-11-21T06:11:09.5+02:00".parse::<Timestamp>().expect("a time");
        assert_eq!(other_zone.to_string(), "2026-11-21T04:11:09.5Z");
    }
}

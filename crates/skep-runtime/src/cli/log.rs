//! Messages: to standard error, and to the file that the caller reads after a failure.

use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where messages go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    /// A file besides standard error.
    pub(crate) file: Option<PathBuf>,
    /// The form of that file's lines.
    pub(crate) format: Format,
    /// Whether to tell more.
    pub(crate) debug: bool,
}

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// As logrus prints.
    #[default]
    Text,
    /// An object per line; containerd reads its `msg`.
    Json,
}

impl FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" | "" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => Err(()),
        }
    }
}

impl Log {
    /// Why a command failed.
    pub(crate) fn error(&self, message: &str) {
        let _ = writeln!(std::io::stderr(), "skep-runtime: {message}");
        self.write("error", message);
    }

    /// Something that the caller should know and that stops nothing.
    pub(crate) fn warn(&self, message: &str) {
        let _ = writeln!(std::io::stderr(), "skep-runtime: warning: {message}");
        self.write("warning", message);
    }

    /// Something for who looks into the runtime.
    pub(crate) fn debug(&self, message: &str) {
        if self.debug {
            self.write("debug", message);
        }
    }

    /// A log that can't be written does not stop a container.
    fn write(&self, level: &str, message: &str) {
        let Some(path) = &self.file else { return };
        let time = now();
        let line = match self.format {
            Format::Json => serde_json::json!({ "level": level, "msg": message, "time": time }).to_string(),
            Format::Text => format!("time=\"{time}\" level={level} msg={message:?}"),
        };
        if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
            let _ = writeln!(file, "{line}");
        }
    }
}

/// The present time as RFC 3339 has it, in UTC.
pub(crate) fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(now.as_secs(), now.subsec_nanos())
}

fn rfc3339(seconds: u64, nanos: u32) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years: years begin in March, so that the leap day is the last.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_civil() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_399, 5), "2000-02-28T23:59:59.000000005Z");
        assert_eq!(rfc3339(951_782_400, 0), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(rfc3339(1_795_233_600, 0), "2026-11-21T04:00:00.000000000Z");
    }
}

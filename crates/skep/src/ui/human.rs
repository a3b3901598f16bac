//! Times and sizes as Docker words them for people.

use chrono::{DateTime, Local, Utc};

/// `About a minute`, `3 hours`, `2 weeks`: a span of time in the biggest unit that fits.
pub(crate) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// `3 hours ago`, from a Unix time.
pub(crate) fn ago(unix: i64) -> String {
    format!("{} ago", span(Utc::now().timestamp() - unix))
}

/// Docker's `CreatedAt` form: `2024-01-02 15:04:05 +0100 CET`, in local time.
pub(crate) fn local_time(unix: i64) -> String {
    let Some(time) = DateTime::from_timestamp(unix, 0) else { return String::new() };
    let local = time.with_timezone(&Local);
    format!("{} {}", local.format("%Y-%m-%d %H:%M:%S %z"), zone_name(&local))
}

/// The abbreviation of the local time zone; `UTC` when the offset is none.
fn zone_name(time: &DateTime<Local>) -> String {
    let offset = time.format("%z").to_string();
    if offset == "+0000" { "UTC".to_owned() } else { offset[..3].to_owned() }
}

/// Cuts `text` to `width` letters, the last one replaced by an ellipsis.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// A size in units of 1000 with three significant digits, as Docker's tables show it.
pub(crate) fn size(bytes: i64) -> String {
    skep_types::format_decimal(u64::try_from(bytes).unwrap_or(0))
}

/// A size in units of 1000 with four significant digits, as Docker shows progress and what a prune freed.
pub(crate) fn fine_size(bytes: i64) -> String {
    skep_types::format_decimal_fine(u64::try_from(bytes).unwrap_or(0))
}

/// The first 12 letters of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_worded_as_docker_does() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (730 * 86400, "2 years"),
        ] {
            assert_eq!(span(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn long_commands_are_cut() {
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(ellipsis("abcd", 4), "abcd");
    }
}

//! Durations in Go's form: `1h2m3.5s`, `300ms`.

use std::time::Duration;

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("time: invalid duration {0:?}")]
pub struct DurationError(String);

const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];

/// Reads what Go's `time.ParseDuration` reads, but for negative durations.
pub fn parse_go_duration(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(error());
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let number: f64 = rest[..end].parse().map_err(|_| error())?;
        rest = &rest[end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, factor) = UNITS.iter().find(|(unit, _)| *unit == &rest[..unit_end]).ok_or_else(error)?;
        nanos += number * factor;
        rest = &rest[unit_end..];
    }
    if nanos > 9.2e18 {
        return Err(error());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and within range")]
    Ok(Duration::from_nanos(nanos.round() as u64))
}

/// Prints as Go does: `0s`, `1.5s`, `2m0s`, `300ms`.
pub fn format_go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |value: u128, unit: u128| {
        let text = format!("{}.{:0width$}", value / unit, value % unit, width = unit.ilog10() as usize);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(nanos, 1_000_000)),
        _ => {
            let (minutes, below) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let seconds = format!("{}s", fraction(below, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_like_go() {
        for (text, back) in [
            ("0", "0s"),
            ("1.5s", "1.5s"),
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("300ms", "300ms"),
            ("1h2m3.5s", "1h2m3.5s"),
        ] {
            assert_eq!(format_go_duration(parse_go_duration(text).expect(text)), back);
        }
        for bad in ["", "1", "s", "1x", "-1s", "1.2.3s", "9999999999h"] {
            assert!(parse_go_duration(bad).is_err(), "{bad}");
        }
    }
}

//! `--since` and `--until`: points in time as people write them, made into what the API takes.

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, TimeZone, Utc};

use super::Failure;

/// Seconds since 1970, with nanoseconds behind a dot, from a time, a date, a Go duration before now, or such seconds
/// themselves. Empty stays empty.
pub(crate) fn parse(text: &str) -> Result<String, Failure> {
    parse_at(text, Utc::now())
        .ok_or_else(|| Failure::message(format!("failed to parse value as time or duration: {text:?}")))
}

fn parse_at(text: &str, now: DateTime<Utc>) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    let is_seconds = |part: &str| part.bytes().all(|c| c.is_ascii_digit());
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !seconds.is_empty() && is_seconds(seconds) && is_seconds(fraction) {
        return Some(text.to_owned());
    }
    if let Ok(duration) = skep_types::parse_go_duration(text) {
        let then = now - chrono::TimeDelta::from_std(duration).ok()?;
        return Some(then.timestamp().to_string());
    }
    date(text).map(|time| format!("{}.{:09}", time.timestamp(), time.timestamp_subsec_nanos()))
}

/// RFC 3339, or a part of it from the left; without a zone it is local time.
fn date(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.with_timezone(&Utc));
    }
    let (text, is_utc) = match text.strip_suffix('Z') {
        Some(text) => (text, true),
        None => (text, false),
    };
    let whole_hour = |text: &str| NaiveDateTime::parse_from_str(&format!("{text}:00"), "%Y-%m-%dT%H:%M").ok();
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M"))
        .ok()
        .or_else(|| whole_hour(text))
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))?;
    match is_utc {
        true => Some(local.and_utc()),
        false => Local.from_local_datetime(&local).earliest().map(|time| time.with_timezone(&Utc)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_in_many_forms() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        for (text, seconds) in [
            ("", Some("")),
            ("1700000000", Some("1700000000")),
            ("1700000000.5", Some("1700000000.5")),
            ("10m", Some("1699999400")),
            ("1h30m", Some("1699994600")),
            ("2023-11-14T22:13:20Z", Some("1700000000.000000000")),
            ("2023-11-15T00:13:20.25+02:00", Some("1700000000.250000000")),
            ("2023-11-14T22:13Z", Some("1699999980.000000000")),
            ("2023-11-14T22Z", Some("1699999200.000000000")),
            ("2023-11-14Z", Some("1699920000.000000000")),
            ("yesterday", None),
            ("2023-13-01", None),
        ] {
            assert_eq!(parse_at(text, now).as_deref(), seconds, "{text}");
        }
    }
}

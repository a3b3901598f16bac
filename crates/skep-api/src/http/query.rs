//! Query strings, by the rules of dockerd's form helpers.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::http::ApiError;

/// The decoded pairs of a query, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        Query(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of `key`; empty when there is none.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.given(key).unwrap_or_default()
    }

    /// The first value of `key` that is not empty.
    pub(crate) fn filled(&self, key: &str) -> Option<&str> {
        self.given(key).filter(|value| !value.is_empty())
    }

    fn given(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All values of `key`.
    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(name, _)| name == key).map(|(_, value)| value.clone()).collect()
    }

    /// Everything is true but nothing, `0`, `no`, `false` and `none`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        let value = self.text(key).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// As [`flag`](Self::flag), with a value for a key that isn't there.
    pub(crate) fn flag_or(&self, key: &str, default: bool) -> bool {
        if self.given(key).is_some() { self.flag(key) } else { default }
    }

    /// A whole number, if there is one.
    pub(crate) fn number(&self, key: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.filled(key) else { return Ok(None) };
        let fault = match text.parse::<i64>() {
            Ok(number) => return Ok(Some(number)),
            Err(error) => match error.kind() {
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            },
        };
        Err(ApiError::invalid(format!("strconv.Atoi: parsing {text:?}: {fault}")))
    }

    /// `filters`: a JSON map of lists, or of sets (`{"label": {"a": true}}`), which is what Docker's own client sends.
    pub(crate) fn filters(&self) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
        let Some(text) = self.filled("filters") else { return Ok(BTreeMap::new()) };
        let invalid = || ApiError::invalid("invalid filter");
        let keys: BTreeMap<String, Value> = skep_wire::from_str(text).map_err(|_| invalid())?;
        keys.into_iter()
            .map(|(key, values)| {
                let values = match values {
                    Value::Object(set) => set
                        .into_iter()
                        .filter_map(|(value, chosen)| match chosen {
                            Value::Bool(true) => Some(Ok(value)),
                            Value::Bool(false) => None,
                            _ => Some(Err(invalid())),
                        })
                        .collect::<Result<_, _>>()?,
                    Value::Array(list) => list
                        .into_iter()
                        .map(|value| match value {
                            Value::String(value) => Ok(value),
                            _ => Err(invalid()),
                        })
                        .collect::<Result<_, _>>()?,
                    _ => return Err(invalid()),
                };
                Ok((key, values))
            })
            .collect()
    }

    /// A point in time: seconds since 1970 with up to nine decimals, or RFC 3339. Zero, like nothing, is none.
    pub(crate) fn time(&self, key: &str) -> Result<Option<DateTime<Utc>>, ApiError> {
        let Some(text) = self.filled(key) else { return Ok(None) };
        let time = point_in_time(text)
            .ok_or_else(|| ApiError::invalid(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
        Ok(Some(time).filter(|time| time.timestamp() != 0 || time.timestamp_subsec_nanos() != 0))
    }
}

/// A point in time, or how long ago it was (`10m`, `1h30m`).
pub(crate) fn time_or_age(text: &str) -> Option<DateTime<Utc>> {
    point_in_time(text).or_else(|| {
        let age = skep_types::parse_go_duration(text).ok()?;
        Utc::now().checked_sub_signed(chrono::Duration::from_std(age).ok()?)
    })
}

fn point_in_time(text: &str) -> Option<DateTime<Utc>> {
    if let Some(time) = written_time(text) {
        return Some(time);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    DateTime::from_timestamp(seconds.parse().ok()?, format!("{fraction:0<9}").parse().ok()?)
}

/// A time in RFC 3339, or the beginning of one down to the minute or the day; without a zone it is local.
fn written_time(text: &str) -> Option<DateTime<Utc>> {
    // The date ends in a letter, and a zone stands after the time only.
    let (date, rest) = text.split_once('T').unwrap_or((text, ""));
    if date.len() != 10 {
        return None;
    }
    let zone = rest.find(['Z', '+', '-']).map_or("", |at| &rest[at..]);
    let time = match rest.strip_suffix(zone)? {
        "" => "00:00:00".to_owned(),
        minutes if minutes.len() == 5 => format!("{minutes}:00"),
        whole => whole.to_owned(),
    };
    if !zone.is_empty() {
        return Some(DateTime::parse_from_rfc3339(&format!("{date}T{time}{zone}")).ok()?.with_timezone(&Utc));
    }
    let local = chrono::NaiveDateTime::parse_from_str(&format!("{date}T{time}"), "%Y-%m-%dT%H:%M:%S%.f").ok()?;
    Some(local.and_local_timezone(chrono::Local).earliest()?.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_may_be_cut_short() {
        let time = |text: &str| time_or_age(text).map(|time| time.to_rfc3339());
        for text in
            ["2024-02-15T00:00:00Z", "2024-02-15T00:00Z", "2024-02-15TZ", "2024-02-15T01:00:00+01:00", "1707955200"]
        {
            assert_eq!(time(text).as_deref(), Some("2024-02-15T00:00:00+00:00"), "{text}");
        }
        let local = chrono::NaiveDate::from_ymd_opt(2024, 2, 15).and_then(|day| day.and_hms_opt(0, 0, 0));
        let local = local.and_then(|time| time.and_local_timezone(chrono::Local).earliest()).map(|time| time.to_utc());
        for text in ["2024-02-15", "2024-02-15T00:00", "2024-02-15T00:00:00", "2024-02-15T00:00:00.0"] {
            assert_eq!(time_or_age(text), local, "{text}");
        }
        for text in ["bad", "2024", "2024-02", "2024-13-01", "2024-02-15T", "2024-02-15T25:00", "T", "2024-02-15X"] {
            assert!(text == "2024-02-15T" || text == "2024" || time(text).is_none(), "{text}");
        }
    }

    #[test]
    fn flags_follow_gos_rules() {
        for (text, wanted) in [
            ("", false),
            ("a=", false),
            ("a=0", false),
            ("a=False", false),
            ("a=no", false),
            ("a=none", false),
            ("a=%20%20", false),
            ("a=1", true),
            ("a=true", true),
            ("a=yes", true),
            ("a=off", true),
        ] {
            assert_eq!(Query::parse(text).flag("a"), wanted, "{text}");
        }
        assert!(Query::parse("").flag_or("a", true));
        assert!(!Query::parse("a").flag_or("a", true));
    }

    #[test]
    fn numbers_are_refused_in_gos_words() {
        assert_eq!(Query::parse("t=-1").number("t"), Ok(Some(-1)));
        assert_eq!(Query::parse("t=").number("t"), Ok(None));
        let text = |query| Query::parse(query).number("t").expect_err(query).to_string();
        assert_eq!(text("t=1s"), r#"strconv.Atoi: parsing "1s": invalid syntax"#);
        assert_eq!(
            text("t=99999999999999999999"),
            r#"strconv.Atoi: parsing "99999999999999999999": value out of range"#
        );
    }

    #[test]
    fn filters_come_as_sets_and_as_lists() {
        for text in [r#"{"label":{"a=b":true,"c":false}}"#, r#"{"label":["a=b"]}"#] {
            let query = Query(vec![("filters".into(), text.into())]);
            assert_eq!(query.filters().expect(text), BTreeMap::from([("label".into(), vec!["a=b".into()])]));
        }
        for text in ["{", "[]", r#"{"a": 1}"#, r#"{"a": [1]}"#, r#"{"a": {"b": 1}}"#] {
            let query = Query(vec![("filters".into(), text.into())]);
            assert_eq!(query.filters().expect_err(text).to_string(), "invalid filter");
        }
    }

    #[test]
    fn times_are_seconds_or_rfc_3339() {
        let time = |text: &str| Query(vec![("since".into(), text.into())]).time("since");
        let nanos = |text| time(text).expect(text).expect(text).timestamp_nanos_opt();
        assert_eq!(nanos("1136073600"), Some(1_136_073_600_000_000_000));
        assert_eq!(nanos("1136073600.000000001"), Some(1_136_073_600_000_000_001));
        assert_eq!(nanos("1136073600.5"), Some(1_136_073_600_500_000_000));
        assert_eq!(nanos("2006-01-01T00:00:00Z"), Some(1_136_073_600_000_000_000));
        assert_eq!(time("0"), Ok(None));
        assert!(time("yesterday").is_err());
        assert!(time("1.").is_err());
    }
}

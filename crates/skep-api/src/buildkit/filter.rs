//! Filters of builds, as BuildKit has them: `status==completed`, `createdAt>=24h`, `duration<1m,repository~=skep`. A comma is an
//! "and"; several filters are an "or".

use chrono::{DateTime, TimeDelta, Utc};
use skep_buildkit::proto::moby::buildkit::v1 as wire;
use tonic::Status;

use super::stored::time;

/// One filter.
pub(crate) struct Filter(Vec<Condition>);

enum Condition {
    Text { of: Field, is: Compare, value: String },
    Moment { of: Moment, is: Order, value: DateTime<Utc> },
    Duration { is: Order, value: TimeDelta },
}

#[derive(Clone, Copy)]
enum Field {
    Ref,
    Status,
    Repository,
}

#[derive(Clone, Copy)]
enum Moment {
    Created,
    Completed,
}

#[derive(Clone, Copy)]
enum Compare {
    Same,
    Other,
    Contains,
}

#[derive(Clone, Copy)]
enum Order {
    Before,
    Until,
    From,
    After,
}

impl Filter {
    pub(crate) fn parse(text: &str) -> Result<Self, Status> {
        text.split(',').map(condition).collect::<Result<_, _>>().map(Filter)
    }

    pub(crate) fn picks(&self, record: &wire::BuildHistoryRecord) -> bool {
        self.0.iter().all(|condition| condition.holds(record))
    }
}

fn condition(text: &str) -> Result<Condition, Status> {
    let invalid = || Status::invalid_argument(format!("invalid filter {text:?}"));
    let at = text.find(['=', '!', '~', '<', '>']).ok_or_else(invalid)?;
    let (name, rest) = text.split_at(at);
    let length = rest.len() - rest.trim_start_matches(['=', '!', '~', '<', '>']).len();
    let (operator, value) = rest.split_at(length);
    let value = value.trim_matches('"');
    let compare = || match operator {
        "==" | "=" => Ok(Compare::Same),
        "!=" => Ok(Compare::Other),
        "~=" => Ok(Compare::Contains),
        _ => Err(invalid()),
    };
    let order = || match operator {
        "<" => Ok(Order::Before),
        "<=" => Ok(Order::Until),
        ">=" => Ok(Order::From),
        ">" => Ok(Order::After),
        _ => Err(invalid()),
    };
    let text = |of| Ok(Condition::Text { of, is: compare()?, value: value.to_owned() });
    let moment = |of| {
        let value = match DateTime::parse_from_rfc3339(value) {
            Ok(time) => time.with_timezone(&Utc),
            Err(_) => Utc::now() - duration(value).ok_or_else(invalid)?,
        };
        Ok(Condition::Moment { of, is: order()?, value })
    };
    match name {
        "ref" => text(Field::Ref),
        "status" => text(Field::Status),
        "repository" => text(Field::Repository),
        "createdAt" | "startedAt" => moment(Moment::Created),
        "completedAt" => moment(Moment::Completed),
        "duration" => Ok(Condition::Duration { is: order()?, value: duration(value).ok_or_else(invalid)? }),
        _ => Err(invalid()),
    }
}

/// A duration in Go's form: `1h30m`, `1.5s`.
fn duration(text: &str) -> Option<TimeDelta> {
    let (mut rest, mut total) = (text, 0.0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let units = [("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, seconds) = units.into_iter().find(|(unit, _)| after.starts_with(unit))?;
        total += number * seconds;
        rest = &after[unit.len()..];
    }
    std::time::Duration::try_from_secs_f64(total).ok().and_then(|duration| TimeDelta::from_std(duration).ok())
}

impl Order {
    fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Order::Before => left < right,
            Order::Until => left <= right,
            Order::From => left >= right,
            Order::After => left > right,
        }
    }
}

impl Condition {
    fn holds(&self, record: &wire::BuildHistoryRecord) -> bool {
        let (began, ended) = (record.created_at.as_ref().map(time), record.completed_at.as_ref().map(time));
        match self {
            Condition::Text { of, is, value } => {
                let found = match of {
                    Field::Ref => record.r#ref.as_str(),
                    Field::Status => status(record),
                    Field::Repository => repository(record),
                };
                match is {
                    Compare::Same => found == value,
                    Compare::Other => found != value,
                    Compare::Contains => found.contains(value.as_str()),
                }
            }
            Condition::Moment { of, is, value } => {
                let moment = match of {
                    Moment::Created => began,
                    Moment::Completed => ended,
                };
                moment.is_some_and(|moment| is.holds(&moment, value))
            }
            Condition::Duration { is, value } => {
                began.is_some_and(|began| is.holds(&(ended.unwrap_or_else(Utc::now) - began), value))
            }
        }
    }
}

fn status(record: &wire::BuildHistoryRecord) -> &'static str {
    /// What gRPC calls a call that its client has given up.
    const CANCELLED: i32 = 1;
    match (&record.completed_at, &record.error) {
        (None, _) => "running",
        (Some(_), None) => "completed",
        (Some(_), Some(error)) if error.code == CANCELLED || error.message.contains("context canceled") => "canceled",
        (Some(_), Some(_)) => "error",
    }
}

fn repository(record: &wire::BuildHistoryRecord) -> &str {
    let attributes = &record.frontend_attrs;
    attributes.get("vcs:source").or_else(|| attributes.get("context")).map(String::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::progress::timestamp;
    use super::*;

    #[test]
    fn builds_are_picked() {
        let began = Utc::now() - TimeDelta::hours(2);
        let record = wire::BuildHistoryRecord {
            r#ref: "one".to_owned(),
            frontend_attrs: [("vcs:source".to_owned(), "https://example.com/skep".to_owned())].into(),
            created_at: Some(timestamp(began)),
            completed_at: Some(timestamp(began + TimeDelta::seconds(90))),
            ..wire::BuildHistoryRecord::default()
        };
        let picks = |text: &str| Filter::parse(text).expect("a filter").picks(&record);
        for text in
            ["ref==one", "status==completed", "status!=error", "repository~=skep", "duration>1m,duration<=1m30s"]
        {
            assert!(picks(text), "{text}");
        }
        for text in ["createdAt>=3h", "createdAt<1h", "completedAt>2020-01-01T00:00:00Z"] {
            assert!(picks(text), "{text}");
        }
        for text in ["ref==two", "status==running", "createdAt>1h", "ref==one,status==error", "duration<1s"] {
            assert!(!picks(text), "{text}");
        }
        for text in ["ref", "colour==red", "duration==1m", "createdAt>soon", "ref<one", ""] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }
}

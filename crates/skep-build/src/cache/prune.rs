//! Which records go: a pure plan, for `docker builder prune`, `docker buildx prune` and the collection that runs by itself.
//!
//! Only records that no other record was made from are taken, oldest use first; taking them makes their parents eligible. What a
//! running build uses stays. The space limits are BuildKit's: nothing is taken from within the reserved space, then so much that at
//! most `max_used` is left and at least `min_free` of the disk is free.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use skep_types::Digest;

use super::record::{Record, RecordKind};

/// A record and what else there is to say of it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The record.
    pub record: Record,
    /// Whether a running build uses it.
    pub in_use: bool,
    /// Whether an image has its layer too, so that nothing is won by removing it.
    pub shared: bool,
}

/// What to prune.
#[derive(Debug, Clone, Default)]
pub struct Prune {
    /// Also what is shared, internal or a frontend's.
    pub all: bool,
    /// Only what was not used for so long.
    pub unused_for: Duration,
    /// Records that any of these picks; all if there are none.
    pub filters: Vec<Filter>,
    /// How much may stay.
    pub limits: Limits,
}

/// How much may stay, in bytes; 0 says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// So much always stays.
    pub reserved: u64,
    /// At most so much stays.
    pub max_used: u64,
    /// So much of the disk is to be free.
    pub min_free: u64,
}

/// Room on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Bytes that are free now.
    pub free: u64,
}

/// Conditions that all have to hold: `type==regular,id~=^abc`.
#[derive(Debug, Clone, Default)]
pub struct Filter(Vec<Condition>);

#[derive(Debug, Clone)]
struct Condition {
    field: Field,
    test: Test,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    Parents,
    Description,
    Type,
    InUse,
    Shared,
    Private,
    Mutable,
    Immutable,
}

#[derive(Debug, Clone)]
enum Test {
    /// It is there, or true.
    Present,
    Equal(String),
    Unequal(String),
    Matches(regex::Regex),
}

/// A filter that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// There is no such field.
    #[error("invalid filter {0:?}")]
    Field(String),
    /// A regular expression that is none.
    #[error("invalid filter: {0}")]
    Pattern(String),
}

impl Filter {
    /// A filter in BuildKit's form: conditions separated by commas.
    ///
    /// # Errors
    /// An unknown field, or a bad regular expression.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(condition).collect::<Result<_, _>>().map(Filter)
    }

    /// Adds a condition of `POST /build/prune`: ids by any part, all else as it is; `FIELD~` with a pattern, `FIELD!` with what it
    /// may not be.
    ///
    /// # Errors
    /// An unknown field, or a bad regular expression.
    pub fn and(mut self, field: &str, value: &str) -> Result<Self, FilterError> {
        let (field, test) = match (field.strip_suffix('~'), field.strip_suffix('!')) {
            (Some(field), _) => (field, Test::Matches(pattern(value)?)),
            (_, Some(field)) => (field, Test::Unequal(value.to_owned())),
            _ if field == "id" => (field, Test::Matches(pattern(value)?)),
            _ if value.is_empty() => (field, Test::Present),
            _ => (field, Test::Equal(value.to_owned())),
        };
        self.0.push(Condition { field: Field::of(field)?, test });
        Ok(self)
    }

    /// Whether all conditions hold.
    pub fn picks(&self, listed: &Listed) -> bool {
        self.0.iter().all(|condition| condition.holds(listed))
    }
}

fn pattern(text: &str) -> Result<regex::Regex, FilterError> {
    regex::Regex::new(text).map_err(|error| FilterError::Pattern(error.to_string()))
}

fn condition(text: &str) -> Result<Condition, FilterError> {
    let value = |text: &str| text.trim_matches('"').to_owned();
    let (field, test) = if let Some((field, rest)) = text.split_once("~=") {
        (field, Test::Matches(pattern(&value(rest))?))
    } else if let Some((field, rest)) = text.split_once("!=") {
        (field, Test::Unequal(value(rest)))
    } else if let Some((field, rest)) = text.split_once('=') {
        (field, Test::Equal(value(rest.strip_prefix('=').unwrap_or(rest))))
    } else {
        (text, Test::Present)
    };
    Ok(Condition { field: Field::of(field.trim())?, test })
}

impl Field {
    fn of(name: &str) -> Result<Self, FilterError> {
        Ok(match name {
            "id" => Field::Id,
            "parent" | "parents" => Field::Parents,
            "description" => Field::Description,
            "type" => Field::Type,
            "inuse" => Field::InUse,
            "shared" => Field::Shared,
            "private" => Field::Private,
            "mutable" => Field::Mutable,
            "immutable" => Field::Immutable,
            other => return Err(FilterError::Field(other.to_owned())),
        })
    }
}

impl Condition {
    fn holds(&self, listed: &Listed) -> bool {
        let record = &listed.record;
        let values: Vec<String> = match self.field {
            Field::Id => vec![record.id()],
            Field::Parents => record.parents.iter().map(super::record::record_id).collect(),
            Field::Description => vec![record.description.clone()],
            Field::Type => vec![record.kind.name().to_owned()],
            Field::InUse => return self.flag(listed.in_use),
            Field::Shared => return self.flag(listed.shared),
            Field::Private => return self.flag(!listed.shared),
            Field::Mutable => return self.flag(record.layer().is_none()),
            Field::Immutable => return self.flag(record.layer().is_some()),
        };
        match &self.test {
            Test::Present => values.iter().any(|value| !value.is_empty()),
            Test::Equal(wanted) => values.iter().any(|value| value == wanted),
            Test::Unequal(unwanted) => values.iter().all(|value| value != unwanted),
            Test::Matches(pattern) => values.iter().any(|value| pattern.is_match(value)),
        }
    }

    fn flag(&self, is: bool) -> bool {
        match &self.test {
            Test::Present => is,
            Test::Equal(wanted) => (wanted != "false" && wanted != "0") == is,
            Test::Unequal(unwanted) => (unwanted != "false" && unwanted != "0") != is,
            Test::Matches(pattern) => pattern.is_match(if is { "true" } else { "false" }),
        }
    }
}

/// The keys of the records to remove, in the order in which to remove them.
pub fn plan(listed: &[Listed], prune: &Prune, disk: DiskUse, now: DateTime<Utc>) -> Vec<Digest> {
    let by_key: BTreeMap<Digest, &Listed> = listed.iter().map(|one| (one.record.key, one)).collect();
    let mut children: BTreeMap<Digest, usize> = BTreeMap::new();
    for parent in listed.iter().flat_map(|one| &one.record.parents) {
        *children.entry(*parent).or_default() += 1;
    }
    let mut total: u64 = listed.iter().filter(|one| prune.all || !one.shared).map(|one| one.record.size).sum();
    let keep = keep_bytes(total, prune.limits, disk);
    let age = |one: &Listed| (one.record.last_used.unwrap_or(one.record.created), one.record.uses, one.record.key);
    let free = |key: &Digest, children: &BTreeMap<Digest, usize>| children.get(key).is_none_or(|count| *count == 0);

    let mut ready: BTreeSet<_> = listed.iter().filter(|one| free(&one.record.key, &children)).map(age).collect();
    let mut gone = Vec::new();
    while let Some(next) = ready.pop_first() {
        let one = by_key[&next.2];
        if !eligible(one, prune, now) {
            continue;
        }
        if keep.is_some_and(|keep| total <= keep) {
            break;
        }
        total = total.saturating_sub(one.record.size);
        gone.push(one.record.key);
        for parent in &one.record.parents {
            if let Some(count) = children.get_mut(parent) {
                *count -= 1;
            }
            if let Some(parent) = by_key.get(parent).filter(|parent| free(&parent.record.key, &children)) {
                ready.insert(age(parent));
            }
        }
    }
    gone
}

fn eligible(one: &Listed, prune: &Prune, now: DateTime<Utc>) -> bool {
    let special = one.shared || matches!(one.record.kind, RecordKind::Internal | RecordKind::Frontend);
    let used = one.record.last_used.unwrap_or(one.record.created);
    let idle = (now - used).to_std().unwrap_or_default();
    !one.in_use
        && (prune.all || !special)
        && (prune.unused_for.is_zero() || idle >= prune.unused_for)
        && (prune.filters.is_empty() || prune.filters.iter().any(|filter| filter.picks(one)))
}

/// How much may stay; none if all may go.
fn keep_bytes(total: u64, limits: Limits, disk: DiskUse) -> Option<u64> {
    if limits == Limits::default() {
        return None;
    }
    let mut keep = match (limits.max_used, limits.min_free) {
        (0, 0) => 0, // only a reserve: all above it goes
        (0, _) => total,
        (max_used, _) => max_used,
    };
    let missing = limits.min_free.saturating_sub(disk.free);
    if missing > 0 {
        keep = keep.min(total.saturating_sub(missing));
    }
    Some(keep.max(limits.reserved))
}

impl Prune {
    /// What is pruned without being asked, one after the other: first what is cheap to get again and was not used for two days, then
    /// what was not used for two months, then whatever is above the limits.
    pub fn automatic(limits: Limits) -> Vec<Prune> {
        const CHEAP: [RecordKind; 3] = [RecordKind::Local, RecordKind::CacheMount, RecordKind::Git];
        const CHEAP_BYTES: u64 = 512_000_000;
        const DAY: u64 = 24 * 3600;
        let only = |kind: RecordKind| {
            Filter(vec![Condition { field: Field::Type, test: Test::Equal(kind.name().to_owned()) }])
        };
        vec![
            Prune {
                filters: CHEAP.map(only).to_vec(),
                unused_for: Duration::from_secs(2 * DAY),
                limits: Limits { max_used: CHEAP_BYTES, ..Limits::default() },
                ..Prune::default()
            },
            Prune { unused_for: Duration::from_secs(60 * DAY), limits, ..Prune::default() },
            Prune { limits, ..Prune::default() },
            Prune { all: true, limits, ..Prune::default() },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Content;
    use super::*;

    fn record(number: u8, kind: RecordKind, size: u64, hours: i64, parents: &[u8]) -> Listed {
        let key = |number: u8| Digest::from_bytes([number; 32]);
        let used = DateTime::from_timestamp(1_000_000 - hours * 3600, 0).expect("a time");
        let record = Record {
            key: key(number),
            kind,
            description: format!("step {number}"),
            content: Content::Directory(number.to_string()),
            size,
            created: used,
            last_used: Some(used),
            uses: 1,
            parents: parents.iter().copied().map(key).collect(),
        };
        Listed { record, in_use: false, shared: false }
    }

    fn numbers(listed: &[Listed], prune: &Prune, free: u64) -> Vec<u8> {
        let now = DateTime::from_timestamp(1_000_000, 0).expect("a time");
        plan(listed, prune, DiskUse { free }, now).iter().map(|key| key.as_bytes()[0]).collect()
    }

    fn chain() -> Vec<Listed> {
        let regular = RecordKind::Regular;
        vec![
            record(1, regular, 10, 5, &[]),
            record(2, regular, 10, 5, &[1]),
            record(3, regular, 10, 9, &[1]),
            record(4, RecordKind::CacheMount, 10, 1, &[]),
            record(5, RecordKind::Internal, 10, 8, &[]),
        ]
    }

    #[test]
    fn children_go_before_parents_and_the_oldest_first() {
        assert_eq!(numbers(&chain(), &Prune::default(), 0), [3, 2, 1, 4]);
        assert_eq!(numbers(&chain(), &Prune { all: true, ..Prune::default() }, 0), [3, 5, 2, 1, 4]);
    }

    #[test]
    fn what_is_used_or_shared_stays_with_what_it_was_made_from() {
        let mut listed = chain();
        listed[1].in_use = true;
        listed[3].shared = true;
        assert_eq!(numbers(&listed, &Prune::default(), 0), [3]);
    }

    #[test]
    fn filters_pick() {
        let with = |text: &str| Prune { filters: vec![Filter::parse(text).expect(text)], ..Prune::default() };
        let id = record(4, RecordKind::CacheMount, 0, 0, &[]).record.id();
        assert_eq!(numbers(&chain(), &with("type==exec.cachemount"), 0), [4]);
        assert_eq!(numbers(&chain(), &with("type!=exec.cachemount,description~=^step [23]$"), 0), [3, 2]);
        assert_eq!(numbers(&chain(), &with(&format!("id=={id}")), 0), [4]);
        let docker = Filter::default().and("id", &id[..7]).and_then(|filter| filter.and("private", "true"));
        let docker = Prune { filters: vec![docker.expect("a filter")], ..Prune::default() };
        assert_eq!(numbers(&chain(), &docker, 0), [4]);
        let docker = Filter::default().and("type!", "exec.cachemount").and_then(|f| f.and("description~", "[23]$"));
        let docker = Prune { filters: vec![docker.expect("a filter")], ..Prune::default() };
        assert_eq!(numbers(&chain(), &docker, 0), [3, 2]);
        assert_eq!(Filter::parse("colour==red").expect_err("no such").to_string(), "invalid filter \"colour\"");
        assert!(Filter::parse("id~=(").is_err());
    }

    #[test]
    fn only_what_was_not_used_for_so_long() {
        let prune = Prune { unused_for: Duration::from_secs(6 * 3600), ..Prune::default() };
        assert_eq!(numbers(&chain(), &prune, 0), [3]);
    }

    #[test]
    fn limits_of_space() {
        let with = |reserved, max_used, min_free| Prune {
            limits: Limits { reserved, max_used, min_free },
            ..Prune::default()
        };
        assert_eq!(numbers(&chain(), &with(0, 35, 0), 0), [3, 2]);
        assert_eq!(numbers(&chain(), &with(30, 0, 0), 0), [3, 2]);
        assert_eq!(numbers(&chain(), &with(0, 0, 100), 85), [3, 2]);
        assert_eq!(numbers(&chain(), &with(0, 0, 100), 100), [] as [u8; 0]);
        assert_eq!(numbers(&chain(), &with(45, 20, 0), 0), [3]);
    }
}

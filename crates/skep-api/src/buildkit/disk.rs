//! What the cache takes, in BuildKit's words.

use std::time::Duration;

use skep_build::cache::{Filter, Limits, Listed, Prune};
use skep_buildkit::proto::moby::buildkit::v1 as wire;
use tonic::Status;

use super::progress::timestamp;
use super::{Builder, error};

pub(crate) async fn usage(
    builder: &dyn Builder,
    request: &wire::DiskUsageRequest,
) -> Result<Vec<wire::UsageRecord>, Status> {
    let filters = filters(&request.filter)?;
    let listed = builder.usage().await.map_err(|error| error::status(&error))?;
    let picked = |one: &&Listed| filters.is_empty() || filters.iter().any(|filter| filter.picks(one));
    Ok(listed.iter().filter(picked).map(record).collect())
}

pub(crate) async fn prune(
    builder: &dyn Builder,
    request: &wire::PruneRequest,
) -> Result<Vec<wire::UsageRecord>, Status> {
    let bytes = |number: i64| u64::try_from(number).unwrap_or(0);
    let prune = Prune {
        all: request.all,
        unused_for: Duration::from_nanos(bytes(request.keep_duration)),
        filters: filters(&request.filter)?,
        limits: Limits {
            reserved: bytes(request.reserved_space),
            max_used: bytes(request.max_used_space),
            min_free: bytes(request.min_free_space),
        },
    };
    let gone = builder.prune(prune).await.map_err(|error| error::status(&error))?;
    Ok(gone.iter().map(record).collect())
}

fn filters(given: &[String]) -> Result<Vec<Filter>, Status> {
    let parse = |text: &String| Filter::parse(text).map_err(|error| Status::invalid_argument(error.to_string()));
    given.iter().map(parse).collect()
}

pub(crate) fn record(listed: &Listed) -> wire::UsageRecord {
    let record = &listed.record;
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    wire::UsageRecord {
        id: record.id(),
        mutable: record.layer().is_none(),
        in_use: listed.in_use,
        size: number(record.size),
        created_at: Some(timestamp(record.created)),
        last_used_at: record.last_used.map(timestamp),
        usage_count: number(record.uses),
        description: record.description.clone(),
        record_type: record.kind.name().to_owned(),
        shared: listed.shared,
        parents: record.parent_ids(),
        ..wire::UsageRecord::default()
    }
}

//! The cache of builds in the garbage collection: after builds, by Docker's policies; and when the disk runs full, before any image goes.

use chrono::Utc;
use skep_build::BuildError;
use skep_build::cache::{DiskUse, Filter, Limits, Listed, Prune, plan};

use crate::build;
use crate::model::gc::{BuildGcPolicy, BuildGcSettings, DiskSpace, FreeSpace};
use crate::{Engine, Error, Result};

/// What stays of the cache of builds if nobody says it, in percent of the disk, as in BuildKit: so much always, at most so much, and so
/// much of the disk stays free.
const RESERVED: u8 = 10;
const MAX_USED: u8 = 60;
const MIN_FREE: u8 = 20;

impl BuildGcSettings {
    /// What is pruned, one after the other.
    fn prunes(&self, disk: DiskSpace) -> Vec<Prune> {
        let bytes = |space: Option<FreeSpace>| space.map_or(0, |space| space.bytes(disk.total));
        if self.policies.is_empty() {
            let unset = self.reserved.is_none() && self.max_used.is_none() && self.min_free.is_none();
            let or = |space: Option<FreeSpace>, percent| match unset {
                true => FreeSpace::Percent(percent).bytes(disk.total),
                false => bytes(space),
            };
            return Prune::automatic(Limits {
                reserved: or(self.reserved, RESERVED),
                max_used: or(self.max_used, MAX_USED),
                min_free: or(self.min_free, MIN_FREE),
            });
        }
        let prune = |policy: &BuildGcPolicy| {
            // They were read once already, when the settings were checked.
            let filter = filter(&policy.filters).ok()?;
            Some(Prune {
                all: policy.all,
                unused_for: policy.unused_for,
                filters: filter.into_iter().collect(),
                limits: Limits {
                    reserved: bytes(policy.reserved.or(self.reserved)),
                    max_used: bytes(policy.max_used),
                    min_free: bytes(policy.min_free),
                },
            })
        };
        self.policies.iter().filter_map(prune).collect()
    }
}

/// The conditions of a policy, all of which have to hold; none if there are none.
pub(crate) fn filter(pairs: &[(String, String)]) -> std::result::Result<Option<Filter>, String> {
    let both = pairs.iter().try_fold(Filter::default(), |filter, (field, value)| filter.and(field, value));
    let both = both.map_err(|error| error.to_string())?;
    Ok((!pairs.is_empty()).then_some(both))
}

fn failed(error: BuildError) -> Error {
    Error::system("collecting the cache of builds", error)
}

impl Engine {
    /// Prunes the cache of builds by its policies.
    pub(super) async fn collect_builds(&self, disk: DiskSpace) -> Result<()> {
        let settings = &self.inner.config.gc.builds;
        if !settings.enabled {
            return Ok(());
        }
        let listed = build::list_cache(&self.inner).await.map_err(failed)?;
        for prune in settings.prunes(disk) {
            // Looking is cheap; pruning writes what is pending to the disk.
            if plan(&listed, &prune, DiskUse { free: disk.free }, Utc::now()).is_empty() {
                continue;
            }
            let gone = build::prune_cache(&self.inner, prune).await.map_err(failed)?;
            if !gone.is_empty() {
                let bytes: u64 = gone.iter().filter(|one| !one.shared).map(|one| one.record.size).sum();
                tracing::info!(records = gone.len(), bytes, "collected from the cache of builds");
            }
        }
        Ok(())
    }

    /// Makes room at the cost of the cache of builds; tells whether anything went. What a build uses stays.
    pub(super) async fn collect_builds_until(&self, free: u64) -> Result<bool> {
        let limits = Limits { min_free: free, ..Limits::default() };
        let prune = Prune { all: true, limits, ..Prune::default() };
        let gone = build::prune_cache(&self.inner, prune).await.map_err(failed)?;
        Ok(!gone.is_empty())
    }

    /// Bytes that only the cache of builds holds, and that no build uses.
    pub(super) async fn idle_builds(&self) -> Result<u64> {
        let listed = build::list_cache(&self.inner).await.map_err(failed)?;
        let idle = |one: &&Listed| !one.in_use && !one.shared;
        Ok(listed.iter().filter(idle).map(|one| one.record.size).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_prunes() {
        let disk = DiskSpace { total: 1000, free: 500 };
        let prunes = BuildGcSettings::default().prunes(disk);
        assert_eq!(prunes.len(), 4);
        assert_eq!(prunes[3].limits, Limits { reserved: 100, max_used: 600, min_free: 200 });
        let one = BuildGcSettings { reserved: Some(FreeSpace::Bytes(7)), ..BuildGcSettings::default() };
        assert_eq!(one.prunes(disk)[3].limits, Limits { reserved: 7, max_used: 0, min_free: 0 });
        let policy = BuildGcPolicy {
            all: true,
            filters: vec![("type".to_owned(), "exec.cachemount".to_owned())],
            max_used: Some(FreeSpace::Percent(5)),
            ..BuildGcPolicy::default()
        };
        let prunes = BuildGcSettings { policies: vec![policy], ..one }.prunes(disk);
        assert_eq!((prunes.len(), prunes[0].filters.len(), prunes[0].limits.max_used), (1, 1, 50));
        assert!(filter(&[("colour".to_owned(), "red".to_owned())]).is_err());
    }
}

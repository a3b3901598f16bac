//! The containers when an engine comes up: those that run are found again, those that ended meanwhile are recorded, what an
//! earlier daemon left half done is finished.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use skep_runtime::protocol::{ExitRecord, Phase, State};

use super::index::Handle;
use super::record::Record;
use super::start::Running;
use super::task::Task;
use super::{bundle, restart};
use crate::engine::{Inner, blocking};
use crate::model::status::{Exited, Running as Facts, Status};
use crate::networks;
use crate::shim::{Reconnected, ShimHandle};
use crate::{Error, Result};

/// Takes over all stored containers. Those that the restart policy wants start once the engine is up.
pub(crate) async fn all(engine: &Arc<Inner>, records: Vec<Record>) -> Result<()> {
    let mut to_start = Vec::new();
    for record in records {
        engine.containers.reserve_name(&record.name, record.id)?;
        let (handle, start) = one(engine, record).await?;
        if start {
            to_start.push(handle);
        }
    }
    let inner = engine.clone();
    blocking(move || networks::take_over_names(&inner)).await?;
    for handle in to_start {
        Task::restart_soon(&handle);
    }
    sweep(engine).await
}

/// Takes over one container; tells whether it is to be started.
async fn one(engine: &Arc<Inner>, mut record: Record) -> Result<(Handle, bool)> {
    let path = bundle::bundle_path(engine, record.id);
    let found = match path.exists() {
        true => ShimHandle::reconnect(&path)
            .await
            .map_err(|e| Error::system(format!("reconnecting to container {}", record.id), e))?,
        false => Reconnected::Lost,
    };
    match found {
        Reconnected::Connected { shim, events, state } if matches!(state.phase, Phase::Running { .. }) => {
            let facts = facts(&record, &state);
            let cgroup = bundle::cgroup_path(engine, &record.host, record.id);
            let frozen = bundle::open_cgroup(&cgroup).is_ok_and(|cgroup| cgroup.is_frozen().unwrap_or(false));
            let plugs = engine.networks.adopt(&record);
            let status = if frozen { Status::Paused(facts) } else { Status::Running(facts) };
            record.running = Some(facts);
            record.ever_ran = true;
            networks::remember(engine, &record);
            let running = Running { shim, events, facts, cgroup, bundle: path, plugs };
            return Ok((Task::spawn(engine.clone(), record, status, Some(running)), false));
        }
        // A daemon died between making it and letting it go: dropping the events undoes it.
        Reconnected::Connected { .. } => clean(engine, &mut record, None).await?,
        Reconnected::ExitedWhileAway(exit) => clean(engine, &mut record, Some(exit)).await?,
        Reconnected::Lost => clean(engine, &mut record, None).await?,
    }
    let code = record.last_exit.as_ref().map_or(0, |exit| exit.code);
    let start = record.ever_ran
        && restart::wanted_at_boot(record.host.restart_policy, code, record.restart_count, record.stopped_by_user);
    let auto_remove = record.host.auto_remove && record.ever_ran;
    let status = record.status();
    let handle = Task::spawn(engine.clone(), record, status, None);
    if auto_remove {
        Task::remove_soon(&handle);
    }
    Ok((handle, start && !auto_remove))
}

fn facts(record: &Record, state: &State) -> Facts {
    let started_at = match (record.running, state.phase) {
        (Some(facts), _) if facts.pid == state.pid && facts.start_time == state.start_time => facts.started_at,
        (_, Phase::Running { started_at }) => DateTime::from_timestamp_nanos(started_at),
        (_, Phase::Created | Phase::Exited(_)) => Utc::now(),
    };
    Facts { pid: state.pid, start_time: state.start_time, started_at }
}

/// Records the end of a container that does not run any more, and clears away what it had.
async fn clean(engine: &Arc<Inner>, record: &mut Record, exit: Option<ExitRecord>) -> Result<()> {
    let was_running = record.running.take();
    if was_running.is_some() || exit.is_some() {
        let started_at = was_running.map(|facts| facts.started_at);
        record.last_exit = Some(match exit {
            Some(ExitRecord { exit, started_at: at, failure, .. }) => Exited {
                code: i32::from(exit.code),
                oom_killed: exit.oom_killed,
                error: failure.map(|failure| failure.message).unwrap_or_default(),
                started_at: started_at.or(at.map(DateTime::from_timestamp_nanos)),
                finished_at: DateTime::from_timestamp_nanos(exit.finished_at),
            },
            // The machine went down, or the shim was killed while nobody watched.
            None => Exited { code: 255, oom_killed: false, error: String::new(), started_at, finished_at: Utc::now() },
        });
        record.ever_ran |= was_running.is_some();
    }
    let plugs = engine.networks.adopt(record);
    record.clear_network();
    let inner = engine.clone();
    let owned = record.clone();
    blocking(move || {
        bundle::end_leftovers(&bundle::cgroup_path(&inner, &owned.host, owned.id))?;
        inner.networks.unplug_all(&plugs)?;
        bundle::delete(&bundle::bundle_path(&inner, owned.id))?;
        inner.storage.put_container(&owned)
    })
    .await
}

/// Removes directories of containers that are in no record: a daemon died while it made or removed them.
async fn sweep(engine: &Arc<Inner>) -> Result<()> {
    let engine = engine.clone();
    blocking(move || {
        let known: HashSet<String> = engine.containers.all().iter().map(|handle| handle.id.to_string()).collect();
        let stray = |root: &std::path::Path| {
            let entries = std::fs::read_dir(root.join("containers")).into_iter().flatten().flatten();
            entries
                .filter(|entry| !known.contains(&*entry.file_name().to_string_lossy()))
                .map(|entry| entry.path())
                .collect::<Vec<_>>()
        };
        for path in stray(&engine.config.data_root) {
            engine.storage.trash(&path).map_err(|e| Error::system(format!("deleting {}", path.display()), e))?;
        }
        for path in stray(&engine.config.exec_root) {
            bundle::delete(&path)?;
        }
        Ok(())
    })
    .await
}

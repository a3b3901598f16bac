//! Containers: create, list, inspect and all that changes their state.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use skep_runtime::protocol::Target;
use skep_runtime::spec::ConsoleSize;
use skep_types::{ContainerId, ContainerName, Signal};
use tokio::sync::oneshot;

use super::blocking;
use crate::containers::index::Handle;
use crate::containers::task::Command;
use crate::containers::{bundle_cgroup, create, filter, processes};
use crate::model::container::CreateContainer;
use crate::model::event::EventType;
use crate::model::request::{Change, Created, ListContainers, ProcessTable, Pruned, RemoveContainer, WaitCondition};
use crate::model::status::{Exited, Status};
use crate::model::view::{ContainerSize, ContainerView};
use crate::{Engine, Error, Result};

/// How long the end of a killed container is waited for.
const KILL_WAIT: Duration = Duration::from_secs(10);

impl Engine {
    /// Makes a container; it does not start.
    pub async fn create_container(&self, request: CreateContainer) -> Result<Created<ContainerId>> {
        create::create(self, request).await
    }

    /// The containers that the filters leave, newest first.
    pub fn list_containers(&self, options: &ListContainers) -> Result<Vec<Arc<ContainerView>>> {
        filter::select(self.views(), options, &|name| self.inner.images.descending_from(name))
    }

    /// One container, by name, id or unique id prefix.
    pub fn container(&self, name: &str) -> Result<Arc<ContainerView>> {
        Ok(self.inner.containers.find(name)?.view())
    }

    /// Sizes of its root file system; walks the writable layer.
    pub async fn container_size(&self, id: ContainerId) -> Result<ContainerSize> {
        let view = self.container(&id.to_string())?;
        let image = self.inner.images.inspect(&view.image_id.to_string(), None).map_or(0, |image| image.size);
        let upper = view.rootfs.upper.clone();
        let writable = blocking(move || Ok(crate::storage::tree_size(upper.as_ref()))).await?;
        Ok(ContainerSize { writable, root: image + writable })
    }

    /// Starts it.
    pub async fn start_container(&self, name: &str) -> Result<Change> {
        self.ask(name, Command::Start).await
    }

    /// Asks it to end, and kills it after `timeout` seconds (its own stop timeout when absent, for ever when negative).
    pub async fn stop_container(&self, name: &str, timeout: Option<i64>, signal: Option<Signal>) -> Result<Change> {
        self.ask(name, |reply| Command::Stop { timeout, signal, reply }).await
    }

    /// Stops it if it runs, and starts it.
    pub async fn restart_container(&self, name: &str, timeout: Option<i64>, signal: Option<Signal>) -> Result<()> {
        self.ask(name, |reply| Command::Restart { timeout, signal, reply }).await
    }

    /// Sends a signal to its first process. After SIGKILL its end is waited for, for a while: whoever kills a container
    /// expects that it can be removed next.
    pub async fn kill_container(&self, name: &str, signal: Signal) -> Result<()> {
        let end = self.wait_container(name, WaitCondition::NotRunning)?;
        self.ask(name, |reply| Command::Kill(signal, reply)).await.map_err(|error| match error {
            Error::Conflict(why) => Error::Conflict(format!("cannot kill container: {name}: {why}")),
            other => other,
        })?;
        if signal == Signal::KILL {
            // It has been sent; a process that the kernel holds on to is no failure of this.
            let _ = tokio::time::timeout(KILL_WAIT, end).await;
        }
        Ok(())
    }

    /// Freezes its processes.
    pub async fn pause_container(&self, name: &str) -> Result<()> {
        self.ask(name, Command::Pause).await
    }

    /// Lets them go on.
    pub async fn unpause_container(&self, name: &str) -> Result<()> {
        self.ask(name, Command::Unpause).await
    }

    /// Gives it another name.
    pub async fn rename_container(&self, name: &str, new_name: ContainerName) -> Result<()> {
        self.ask(name, |reply| Command::Rename(new_name, reply)).await
    }

    /// Removes it.
    pub async fn remove_container(&self, name: &str, options: RemoveContainer) -> Result<()> {
        self.ask(name, |reply| Command::Remove(options, reply)).await.map_err(|error| match error {
            Error::Conflict(why) => Error::Conflict(format!("cannot remove container \"{name}\": {why}")),
            other => other,
        })
    }

    /// Waits for its end. Resolves the name and registers at once: what happens after this returns is not missed; the inner
    /// future is the wait itself.
    pub fn wait_container(
        &self,
        name: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = Result<Exited>> + Send + use<>> {
        let handle = self.inner.containers.find(name)?;
        let exits = handle.published.borrow().exits;
        Ok(wait(handle, condition, exits))
    }

    /// Removes all that don't run and that the filters leave.
    pub async fn prune_containers(&self, filters: &BTreeMap<String, Vec<String>>) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for view in self.prunable_containers(filters)? {
            let size = self.container_size(view.id).await.map_or(0, |size| size.writable);
            match self.remove_container(&view.id.to_string(), RemoveContainer::default()).await {
                Ok(()) => {
                    pruned.removed.push(view.id.to_string());
                    pruned.reclaimed += size;
                }
                // Someone removed or started it meanwhile.
                Err(Error::NoSuchContainer(_) | Error::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.prune_event(EventType::Container, pruned.reclaimed);
        Ok(pruned)
    }

    /// The containers that a prune removes.
    pub(super) fn prunable_containers(
        &self,
        filters: &BTreeMap<String, Vec<String>>,
    ) -> Result<Vec<Arc<ContainerView>>> {
        const KEYS: [&str; 3] = ["label", "label!", "until"];
        if let Some(key) = filters.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(Error::Invalid(format!("invalid filter '{key}'")));
        }
        let until = filters.get("until").and_then(|values| values.first()).map(|text| until(text)).transpose()?;
        let labels: BTreeMap<String, Vec<String>> = filters
            .iter()
            .filter(|(key, _)| *key != "until")
            .map(|(key, values)| (key.clone(), values.clone()))
            .collect();
        let options = ListContainers { all: true, limit: None, filters: labels };
        let mut found = self.list_containers(&options)?;
        found.retain(|view| {
            let idle = matches!(view.status, Status::Created | Status::Exited(_) | Status::Dead);
            idle && until.is_none_or(|moment| view.created <= moment)
        });
        Ok(found)
    }

    /// Its processes, in the columns of `ps ARGS`.
    pub async fn container_top(&self, name: &str, ps_args: &str) -> Result<ProcessTable> {
        let handle = self.inner.containers.find(name)?;
        handle.live()?;
        let view = handle.view();
        if matches!(view.status, Status::Restarting(_)) {
            return Err(Error::Conflict(format!(
                "container {} is restarting, wait until the container is running",
                view.id
            )));
        }
        let inner = self.inner.clone();
        let pids: HashSet<i32> = blocking(move || {
            let cgroup = bundle_cgroup(&inner, &view)?;
            Ok(cgroup
                .pids()
                .map_err(|e| Error::system("listing the processes of a container", e))?
                .into_iter()
                .collect())
        })
        .await?;
        processes::table(&pids, ps_args).await
    }

    /// Sets the size of its terminal, in characters.
    pub async fn resize_container(&self, name: &str, height: u16, width: u16) -> Result<()> {
        let live = self.inner.containers.find(name)?.live()?;
        live.shim
            .resize(Target::Container, ConsoleSize { height, width })
            .await
            .map_err(|e| Error::system(format!("resizing the terminal of container {name}"), e))
    }

    /// Asks the owner task. The task does what was asked even if the caller does not wait for the answer.
    pub(super) async fn ask<T>(
        &self,
        name: &str,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Result<T> {
        let handle = self.inner.containers.find(name)?;
        let (reply, answer) = oneshot::channel();
        let gone = || Error::NoSuchContainer(name.to_owned());
        handle.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn wait(handle: Handle, condition: WaitCondition, exits: u64) -> Result<Exited> {
    let mut published = handle.published;
    let none =
        || Exited { code: 0, oom_killed: false, error: String::new(), started_at: None, finished_at: Utc::now() };
    loop {
        let found = {
            let now = published.borrow_and_update();
            let ended = match condition {
                WaitCondition::NotRunning => {
                    now.view.status.running().is_none() && !matches!(now.view.status, Status::Restarting(_))
                }
                WaitCondition::NextExit => now.exits > exits,
                WaitCondition::Removed => false,
            };
            ended.then(|| now.view.last_exit.clone().unwrap_or_else(none))
        };
        if let Some(exited) = found {
            return Ok(exited);
        }
        if published.changed().await.is_err() {
            // The owner task is gone, and with it the container.
            return Ok(published.borrow().view.last_exit.clone().unwrap_or_else(none));
        }
    }
}

/// A moment as `--filter until=` takes it: seconds since 1970, RFC 3339, or a duration before now.
pub(super) fn until(text: &str) -> Result<DateTime<Utc>> {
    let invalid = || Error::Invalid(format!("invalid value for \"until\" filter: {text}"));
    if let Ok(duration) = skep_types::parse_go_duration(text) {
        return chrono::Duration::from_std(duration).map(|ago| Utc::now() - ago).map_err(|_| invalid());
    }
    if let Some(moment) = text.parse::<i64>().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0)) {
        return Ok(moment);
    }
    DateTime::parse_from_rfc3339(text).map(|moment| moment.with_timezone(&Utc)).map_err(|_| invalid())
}

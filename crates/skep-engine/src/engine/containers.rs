//! Containers: create, list, inspect and all that changes their state.

use skep_types::{ContainerId, ContainerName, Signal};

use crate::model::container::CreateContainer;
use crate::model::request::{Change, Created, ListContainers, ProcessTable, Pruned, RemoveContainer, WaitCondition};
use crate::model::status::Exited;
use crate::model::view::{ContainerSize, ContainerView};
use crate::{Engine, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Engine {
    /// Makes a container; it does not start.
    pub async fn create_container(&self, _request: CreateContainer) -> Result<Created<ContainerId>> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// The containers that the filters leave, newest first.
    pub fn list_containers(&self, _options: &ListContainers) -> Result<Vec<Arc<ContainerView>>> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// One container, by name, id or unique id prefix.
    pub fn container(&self, _name: &str) -> Result<Arc<ContainerView>> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Sizes of its root file system; walks the writable layer.
    pub async fn container_size(&self, _id: ContainerId) -> Result<ContainerSize> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Starts it.
    pub async fn start_container(&self, _name: &str) -> Result<Change> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Asks it to end, and kills it after `timeout` seconds (its own stop timeout when absent, for ever when negative).
    pub async fn stop_container(&self, _name: &str, _timeout: Option<i64>, _signal: Option<Signal>) -> Result<Change> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Stops it if it runs, and starts it.
    pub async fn restart_container(&self, _name: &str, _timeout: Option<i64>, _signal: Option<Signal>) -> Result<()> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Sends a signal to its first process.
    pub async fn kill_container(&self, _name: &str, _signal: Signal) -> Result<()> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Freezes its processes.
    pub async fn pause_container(&self, _name: &str) -> Result<()> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Lets them go on.
    pub async fn unpause_container(&self, _name: &str) -> Result<()> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Gives it another name.
    pub async fn rename_container(&self, _name: &str, _new_name: ContainerName) -> Result<()> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Removes it.
    pub async fn remove_container(&self, _name: &str, _options: RemoveContainer) -> Result<()> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Waits for its end. Resolves the name and registers at once: what happens after this returns is not missed; the inner
    /// future is the wait itself.
    pub fn wait_container(
        &self,
        _name: &str,
        _condition: WaitCondition,
    ) -> Result<impl Future<Output = Result<Exited>> + Send + use<>> {
        let result: Result<std::future::Ready<Result<Exited>>> =
            Err(crate::Error::NotImplemented("not there yet".to_owned()));
        result
    }
    /// Removes all that don't run and that the filters leave.
    pub async fn prune_containers(&self, _filters: &BTreeMap<String, Vec<String>>) -> Result<Pruned> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Its processes, in the columns of `ps ARGS`.
    pub async fn container_top(&self, _name: &str, _ps_args: &str) -> Result<ProcessTable> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Sets the size of its terminal, in characters.
    pub async fn resize_container(&self, _name: &str, _height: u16, _width: u16) -> Result<()> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
}

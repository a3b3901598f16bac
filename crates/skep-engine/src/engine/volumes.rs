//! Volumes.

use std::collections::BTreeMap;

use crate::model::request::Pruned;
use crate::model::volume::{CreateVolume, Volume};
use crate::{Engine, Result};

impl Engine {
    /// Makes a volume, or finds it: making one that exists is no error.
    pub async fn create_volume(&self, _request: CreateVolume) -> Result<Volume> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// The volumes that the filters leave, by name.
    pub fn list_volumes(&self, _filters: &BTreeMap<String, Vec<String>>) -> Result<Vec<Volume>> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// One volume.
    pub fn volume(&self, _name: &str) -> Result<Volume> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Removes a volume that no container uses.
    pub async fn remove_volume(&self, _name: &str, _force: bool) -> Result<()> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
    /// Removes unused volumes: anonymous ones, with the filter `all=true` named ones too.
    pub async fn prune_volumes(&self, _filters: &BTreeMap<String, Vec<String>>) -> Result<Pruned> {
        Err(crate::Error::NotImplemented("not there yet".to_owned()))
    }
}

//! Volumes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use skep_types::ContainerId;

use super::blocking;
use crate::model::event::EventType;
use crate::model::request::Pruned;
use crate::model::view::{ContainerView, MountKind};
use crate::model::volume::{CreateVolume, Volume};
use crate::{Engine, Error, Result};

impl Engine {
    /// Makes a volume, or finds it: making one that exists is no error.
    pub async fn create_volume(&self, request: CreateVolume) -> Result<Volume> {
        let engine = self.clone();
        let (volume, made) = blocking(move || engine.inner.volumes.create(&request, false)).await?;
        if made {
            self.volume_event("create", &volume);
        }
        Ok(volume)
    }

    /// The volumes that the filters leave, by name.
    pub fn list_volumes(&self, filters: &BTreeMap<String, Vec<String>>) -> Result<Vec<Volume>> {
        const KEYS: [&str; 4] = ["dangling", "driver", "label", "name"];
        if let Some(key) = filters.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(Error::Invalid(format!("invalid filter '{key}'")));
        }
        let used = self.used_volumes();
        let dangling = match filters.get("dangling").and_then(|values| values.first()).map(String::as_str) {
            None => None,
            Some("true" | "1" | "True" | "t" | "T" | "TRUE") => Some(true),
            Some("false" | "0" | "False" | "f" | "F" | "FALSE") => Some(false),
            Some(other) => return Err(Error::Invalid(format!("invalid filter 'dangling={other}'"))),
        };
        let any = |key: &str, test: &dyn Fn(&str) -> bool| {
            filters.get(key).is_none_or(|values| values.is_empty() || values.iter().any(|value| test(value)))
        };
        let keep = |volume: &Volume| {
            dangling.is_none_or(|wanted| wanted != used.contains(volume.name.as_str()))
                && any("driver", &|driver| driver == "local")
                && any("name", &|name| volume.name.as_str().contains(name))
                && filters.get("label").is_none_or(|labels| labels.iter().all(|label| has_label(volume, label)))
        };
        Ok(self.inner.volumes.all().into_iter().filter(keep).collect())
    }

    /// One volume.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        self.inner.volumes.find(name)
    }

    /// Removes a volume that no container uses. With `force` a missing one is no error.
    pub async fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        let volume = match self.inner.volumes.find(name) {
            Err(Error::NoSuchVolume(_)) if force => return Ok(()),
            found => found?,
        };
        let users: Vec<String> = self.volume_users(name);
        if !users.is_empty() {
            return Err(Error::Conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
        }
        self.delete_volume(volume).await
    }

    /// Removes unused volumes: anonymous ones, with the filter `all=true` named ones too.
    pub async fn prune_volumes(&self, filters: &BTreeMap<String, Vec<String>>) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        for volume in self.prunable_volumes(filters, &HashSet::new())? {
            pruned.reclaimed += self.volume_size(&volume).await?;
            pruned.removed.push(volume.name.to_string());
            self.delete_volume(volume).await?;
        }
        self.prune_event(EventType::Volume, pruned.reclaimed);
        Ok(pruned)
    }

    /// The volumes that a prune removes, once the containers `without` are gone.
    pub(super) fn prunable_volumes(
        &self,
        filters: &BTreeMap<String, Vec<String>>,
        without: &HashSet<ContainerId>,
    ) -> Result<Vec<Volume>> {
        const KEYS: [&str; 3] = ["all", "label", "label!"];
        if let Some(key) = filters.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(Error::Invalid(format!("invalid filter '{key}'")));
        }
        let all =
            filters.get("all").is_some_and(|values| values.iter().any(|value| matches!(value.as_str(), "true" | "1")));
        let views = self.views().into_iter().filter(|view| !without.contains(&view.id)).collect::<Vec<_>>();
        let used = volumes_of(&views);
        let labels = |key: &str| filters.get(key).into_iter().flatten();
        let wanted = |volume: &Volume| {
            (all || volume.anonymous)
                && !used.contains(volume.name.as_str())
                && labels("label").all(|label| has_label(volume, label))
                && !labels("label!").any(|label| has_label(volume, label))
        };
        Ok(self.inner.volumes.all().into_iter().filter(wanted).collect())
    }

    /// Bytes of a volume's files.
    pub async fn volume_size(&self, volume: &Volume) -> Result<u64> {
        let path = volume.mountpoint.clone();
        blocking(move || Ok(crate::storage::tree_size(path.as_ref()))).await
    }

    pub(crate) async fn delete_volume(&self, volume: Volume) -> Result<()> {
        let engine = self.clone();
        let name = volume.name.clone();
        blocking(move || engine.inner.volumes.remove(&name)).await?;
        self.volume_event("destroy", &volume);
        Ok(())
    }

    /// Ids of the containers that mount a volume.
    pub(crate) fn volume_users(&self, name: &str) -> Vec<String> {
        let uses = |view: &crate::model::view::ContainerView| {
            view.mounts.iter().any(|mount| mount.kind == MountKind::Volume && mount.name == name)
        };
        self.views().iter().filter(|view| uses(view)).map(|view| view.id.to_string()).collect()
    }

    fn used_volumes(&self) -> BTreeSet<String> {
        volumes_of(&self.views())
    }

    pub(crate) fn volume_event(&self, action: &str, volume: &Volume) {
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        self.inner.events.emit(EventType::Volume, action, volume.name.as_str(), attributes);
    }
}

/// Names of the volumes that these containers mount.
fn volumes_of(views: &[Arc<ContainerView>]) -> BTreeSet<String> {
    let mounts = views.iter().flat_map(|view| &view.mounts);
    mounts.filter(|mount| mount.kind == MountKind::Volume).map(|mount| mount.name.clone()).collect()
}

fn has_label(volume: &Volume, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => volume.labels.get(key).is_some_and(|found| found == value),
        None => volume.labels.contains_key(wanted),
    }
}

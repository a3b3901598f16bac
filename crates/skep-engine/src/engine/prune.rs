//! Prunes: what they have in common, and what one would remove.

use std::collections::{BTreeMap, HashSet};

use skep_types::ContainerId;

use crate::model::event::EventType;
use crate::model::image::{ImageId, ImageUser};
use crate::model::request::{PrunePreview, PruneRequest};
use crate::{Engine, Error, Result};

impl Engine {
    /// What these prunes would remove if they came now, one after the other. Removes nothing.
    pub async fn preview_prune(&self, request: &PruneRequest) -> Result<PrunePreview> {
        let mut preview = PrunePreview::default();
        let mut gone: HashSet<ContainerId> = HashSet::new();
        if let Some(filters) = &request.containers {
            for view in self.prunable_containers(filters)? {
                preview.containers.reclaimed += self.container_size(view.id).await?.writable;
                preview.containers.removed.push(view.id.to_string());
                gone.insert(view.id);
            }
        }
        if let Some(filters) = &request.networks {
            let networks = self.prunable_networks(filters)?.into_iter();
            preview.networks.removed = networks.map(|network| network.name).collect();
        }
        if let Some(filters) = &request.volumes {
            for volume in self.prunable_volumes(filters, &gone)? {
                preview.volumes.reclaimed += self.volume_size(&volume).await?;
                preview.volumes.removed.push(volume.name.to_string());
            }
        }
        if let Some(filters) = &request.images {
            let users = |id: &ImageId| -> Vec<ImageUser> {
                let all = self.users_of(id).into_iter();
                all.filter(|user| !gone.contains(&user.container)).collect()
            };
            let stay = self.inner.storage.container_layers(|record| !gone.contains(&record.id));
            let mut stay = stay.map_err(|e| Error::system("reading the database", e))?;
            stay.extend(self.inner.builds.roots());
            let downloads = match super::system::goes_for_downloads(filters) {
                true => self.inner.storage.store().partials().list(),
                false => Ok(Vec::new()),
            };
            let downloads = downloads.map_err(|e| Error::system("listing unfinished downloads", e))?;
            preview.images = self.inner.images.preview_prune(filters, &users, &stay).await?;
            preview.images.reclaimed += downloads.iter().filter(|one| !one.in_use).map(|one| one.size).sum::<u64>();
        }
        Ok(preview)
    }

    /// Tells that a prune has ended, and what it gave back.
    pub(super) fn prune_event(&self, kind: EventType, reclaimed: u64) {
        let attributes = BTreeMap::from([("reclaimed".to_owned(), reclaimed.to_string())]);
        self.inner.events.emit(kind, "prune", "", attributes);
    }
}

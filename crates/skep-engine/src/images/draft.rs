//! A catalog that is being changed, and the changes that will be stored.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use skep_types::{Platform, Reference};

use super::artifact::Attached;
use super::catalog::{Catalog, ImageRecord};
use super::target::{Target, stored_form};
use crate::model::image::ImageId;

/// One change to be stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    PutImage(ImageId, Arc<ImageRecord>),
    RemoveImage(ImageId),
    PutReference(Reference, Arc<Target>),
    RemoveReference(Reference),
}

/// A catalog that is being changed.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) catalog: Catalog,
    pub(super) changes: Vec<Change>,
}

impl Draft {
    pub(super) fn of(catalog: &Catalog) -> Self {
        Draft { catalog: catalog.clone(), changes: Vec::new() }
    }

    /// Adds an image. One that is there already keeps what is known of it and learns of the new manifests.
    pub(super) fn put_image(&mut self, id: ImageId, mut record: ImageRecord) {
        self.catalog.detached.remove(&id);
        if let Some(old) = self.catalog.images.get(&id) {
            record.manifests.extend(&old.manifests);
            let is_new = |old: &&Attached| {
                record.attached.iter().all(|new| {
                    (new.subject, new.artifact.manifest.digest) != (old.subject, old.artifact.manifest.digest)
                })
            };
            let kept: Vec<Attached> = old.attached.iter().filter(is_new).cloned().collect();
            record.attached.extend(kept);
            record.parent = record.parent.or(old.parent);
            record.last_tagged = old.last_tagged;
            if **old == record {
                return;
            }
        }
        self.replace(id, record);
    }

    fn replace(&mut self, id: ImageId, record: ImageRecord) {
        let record = Arc::new(record);
        self.catalog.images.insert(id, Arc::clone(&record));
        self.changes.push(Change::PutImage(id, record));
    }

    /// Points a reference to `target`, whose images are in the catalog; what it led to before is kept as
    /// [`Target::renewed`] says. Returns the image that it meant before, if it means another one now. `now` is given where a user
    /// puts a tag on an image, and not where one comes with its tag.
    pub(super) fn put_reference(
        &mut self,
        reference: &Reference,
        target: Target,
        now: Option<DateTime<Utc>>,
    ) -> Option<ImageId> {
        let reference = stored_form(reference);
        let old = self.catalog.references.get(&reference).cloned();
        let mut target = old.as_ref().map_or_else(|| target.clone(), |old| old.renewed(target.clone()));
        target.sort_by(|member| self.catalog.platform_of(member).unwrap_or_else(Platform::host));
        if old.as_deref() == Some(&target) {
            return None;
        }
        self.set_reference(reference.clone(), target.clone());
        let (before, first) = (old.and_then(|old| old.first()), target.first()?);
        if before == Some(first) {
            return None;
        }
        let tagged = self.catalog.images.get(&first).filter(|_| reference.digest().is_none());
        if let Some(record) = tagged.filter(|_| now.is_some()) {
            let record = ImageRecord { last_tagged: now, ..(**record).clone() };
            self.replace(first, record);
        }
        before
    }

    fn set_reference(&mut self, reference: Reference, target: Target) {
        let target = Arc::new(target);
        self.catalog.references.insert(reference.clone(), Arc::clone(&target));
        self.changes.push(Change::PutReference(reference, target));
    }

    /// Remembers the image that another was made from here, as long as that one is not removed.
    pub(super) fn set_parent(&mut self, id: &ImageId, parent: &ImageId) {
        let here = id != parent && self.catalog.images.contains_key(parent);
        if let Some(record) = self.catalog.images.get(id).filter(|record| here && record.parent.is_none()) {
            self.replace(*id, ImageRecord { parent: Some(*parent), ..(**record).clone() });
        }
    }

    /// Removes a reference and returns what it led to.
    pub(super) fn remove_reference(&mut self, reference: &Reference) -> Option<Arc<Target>> {
        let target = self.catalog.references.remove(reference)?;
        self.changes.push(Change::RemoveReference(reference.clone()));
        Some(target)
    }

    /// Takes an image out of all that references lead to. Those that lead nowhere then are removed and returned.
    pub(super) fn remove_member(&mut self, id: &ImageId) -> Vec<Reference> {
        let targets = self.catalog.targets_of(id);
        let targets: Vec<_> = targets.map(|(reference, target)| (reference.clone(), Target::clone(target))).collect();
        let mut gone = Vec::new();
        for (reference, mut target) in targets {
            target.images.retain(|member| member.id != *id);
            if target.images.is_empty() {
                self.remove_reference(&reference);
                gone.push(reference);
            } else {
                self.set_reference(reference, target);
            }
        }
        gone
    }

    /// Removes an image; its references must be gone. One that containers use is only detached.
    pub(super) fn remove_image(&mut self, id: &ImageId, used: bool) -> Option<Arc<ImageRecord>> {
        let record = self.catalog.images.remove(id)?;
        if used {
            let detached = Arc::new(ImageRecord { detached: true, ..(*record).clone() });
            self.catalog.detached.insert(*id, Arc::clone(&detached));
            self.changes.push(Change::PutImage(*id, detached));
        } else {
            self.changes.push(Change::RemoveImage(*id));
        }
        Some(record)
    }

    /// Removes a detached image.
    pub(super) fn remove_detached(&mut self, id: &ImageId) {
        if self.catalog.detached.remove(id).is_some() {
            self.changes.push(Change::RemoveImage(*id));
        }
    }
}

//! The records of images and of the references that point to them, in memory.
//!
//! A [`Catalog`] is a value: readers hold one and see a consistent state for as long as they like; a writer changes a [`Draft`] of
//! it, which remembers what has to be written to the database in one commit. Invariant: every reference points to an image
//! that is in the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, Utc};
use serde::{Deserialize, Serialize};
use skep_store::ChainId;
use skep_types::{Digest, Platform, Reference};

use super::{ImageError, Result};
use crate::model::image::ImageId;

/// What is stored about an image beside its configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    /// Digests of the uncompressed layers, base first.
    pub(super) diff_ids: Vec<Digest>,
    /// Ids of the stacks that end with each layer, base first.
    pub(super) chain_ids: Vec<ChainId>,
    /// Bytes of each layer, base first.
    pub(super) layer_sizes: Vec<u64>,
    /// What it was made for.
    pub(super) platform: Platform,
    /// When it was made.
    pub(super) created: Option<DateTime<FixedOffset>>,
    /// Its labels, if it sets anything at all for containers.
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// The image it was built from here.
    pub(super) parent: Option<ImageId>,
    /// Manifests and indexes that came with it; their blobs are kept as they came.
    pub(super) manifests: BTreeSet<Digest>,
    /// When a tag was last put on it.
    pub(super) last_tagged: Option<DateTime<Utc>>,
    /// It was removed by force while containers used it: no name leads to it any more, its layers stay for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) detached: bool,
}

impl ImageRecord {
    /// Bytes of all layers.
    pub(super) fn size(&self) -> u64 {
        self.layer_sizes.iter().sum()
    }

    /// The time it was made, for sorting; images that don't say come last.
    pub(super) fn created_at(&self) -> DateTime<Utc> {
        self.created.map_or(DateTime::<Utc>::MIN_UTC, |time| time.to_utc())
    }
}

/// All images and references.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalog {
    images: BTreeMap<ImageId, Arc<ImageRecord>>,
    /// Removed images that containers still use.
    detached: BTreeMap<ImageId, Arc<ImageRecord>>,
    references: BTreeMap<Reference, ImageId>,
}

impl Catalog {
    /// Puts together what was stored. References to images that aren't there are left out and returned.
    pub(super) fn new(
        images: impl IntoIterator<Item = (ImageId, ImageRecord)>,
        references: impl IntoIterator<Item = (Reference, ImageId)>,
    ) -> (Self, Vec<Reference>) {
        let all = images.into_iter().map(|(id, record)| (id, Arc::new(record)));
        let (detached, images): (BTreeMap<_, _>, BTreeMap<_, _>) = all.partition(|(_, record)| record.detached);
        let (good, lost): (Vec<_>, Vec<_>) = references.into_iter().partition(|(_, id)| images.contains_key(id));
        let catalog = Catalog { images, detached, references: good.into_iter().collect() };
        (catalog, lost.into_iter().map(|(reference, _)| reference).collect())
    }

    pub(super) fn images(&self) -> impl Iterator<Item = (&ImageId, &Arc<ImageRecord>)> {
        self.images.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.images.len()
    }

    pub(super) fn image(&self, id: &ImageId) -> Option<&Arc<ImageRecord>> {
        self.images.get(id)
    }

    /// An image, even if it is detached.
    pub(super) fn any_image(&self, id: &ImageId) -> Option<&Arc<ImageRecord>> {
        self.images.get(id).or_else(|| self.detached.get(id))
    }

    /// Removed images that wait for the end of their containers.
    pub(super) fn detached(&self) -> impl Iterator<Item = &ImageId> {
        self.detached.keys()
    }

    fn all(&self) -> impl Iterator<Item = (&ImageId, &Arc<ImageRecord>)> {
        self.images.iter().chain(&self.detached)
    }

    /// The image that a reference points to; `latest` if it has neither tag nor digest. A digest wins over a tag.
    pub(super) fn reference(&self, reference: &Reference) -> Option<ImageId> {
        self.references.get(&stored_form(reference)).copied()
    }

    /// The references to an image, sorted.
    pub(super) fn references_of<'a>(&'a self, id: &'a ImageId) -> impl Iterator<Item = &'a Reference> {
        self.references.iter().filter(move |(_, target)| *target == id).map(|(reference, _)| reference)
    }

    /// All tags of a repository, with their images.
    pub(super) fn tags_of_repository(&self, repository: &Reference) -> Vec<(Reference, ImageId)> {
        let name = repository.canonical_name();
        let of = self.references.iter().filter(|(r, _)| r.digest().is_none() && r.canonical_name() == name);
        of.map(|(reference, id)| (reference.clone(), *id)).collect()
    }

    /// Tags and digests of an image, as people write them.
    pub(super) fn names_of(&self, id: &ImageId) -> (Vec<String>, Vec<String>) {
        let (digests, tags): (Vec<_>, Vec<_>) = self.references_of(id).partition(|r| r.digest().is_some());
        let familiar = |list: Vec<&Reference>| list.into_iter().map(Reference::familiar).collect();
        (familiar(tags), familiar(digests))
    }

    /// Images built from this one.
    pub(super) fn has_children(&self, id: &ImageId) -> bool {
        self.images.values().any(|record| record.parent.as_ref() == Some(id))
    }

    /// The image of a name, an id, or a unique prefix of an id: in this order.
    pub(super) fn resolve(&self, name: &str) -> Result<ImageId> {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if let Ok(id) = Digest::from_hex(hex) {
            return if self.images.contains_key(&id) { Ok(id) } else { Err(ImageError::NotFound(id.to_string())) };
        }
        let reference: Reference = name.parse()?;
        if let Some(id) = self.reference(&reference) {
            return Ok(id);
        }
        match self.by_prefix(hex)? {
            Some(id) => Ok(id),
            None => Err(ImageError::NotFound(reference.or_latest().familiar())),
        }
    }

    fn by_prefix(&self, prefix: &str) -> Result<Option<ImageId>> {
        let is_hex = |c: u8| c.is_ascii_digit() || matches!(c, b'a'..=b'f');
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(is_hex) {
            return Ok(None);
        }
        let lowest = Digest::from_hex(&format!("{prefix:0<64}")).map_err(|e| ImageError::Invalid(e.to_string()))?;
        let mut found = self.images.range(lowest..).map(|(id, _)| id).take_while(|id| id.hex().starts_with(prefix));
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(ImageError::Ambiguous(prefix.to_owned())),
            (first, _) => Ok(first.copied()),
        }
    }

    /// The topmost layers of all images.
    pub(super) fn tops(&self) -> Vec<ChainId> {
        self.all().filter_map(|(_, record)| record.chain_ids.last().copied()).collect()
    }

    /// Bytes of a layer.
    pub(super) fn layer_size(&self, chain: &ChainId) -> u64 {
        let sizes = self.all().flat_map(|(_, record)| record.chain_ids.iter().zip(&record.layer_sizes));
        sizes.filter(|(c, _)| *c == chain).map(|(_, size)| *size).next().unwrap_or(0)
    }

    /// Digests of all blobs that images need: configurations and manifests.
    pub(super) fn blobs_in_use(&self) -> BTreeSet<Digest> {
        self.all().flat_map(|(id, record)| record.manifests.iter().chain([id])).copied().collect()
    }
}

/// Whether `name` is an id of the image, or the beginning of it.
pub(super) fn is_id_prefix(id: &ImageId, name: &str) -> bool {
    id.to_string().starts_with(name) || id.hex().starts_with(name)
}

/// References are stored with exactly one of tag and digest.
pub(super) fn stored_form(reference: &Reference) -> Reference {
    match reference.digest() {
        Some(digest) => reference.with_digest(digest),
        None => reference.or_latest(),
    }
}

/// One change to be stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    PutImage(ImageId, Arc<ImageRecord>),
    RemoveImage(ImageId),
    PutReference(Reference, ImageId),
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

    /// Points a reference to an image, and returns the image that it pointed to before, if that is another one.
    pub(super) fn put_reference(&mut self, reference: &Reference, id: ImageId, now: DateTime<Utc>) -> Option<ImageId> {
        let reference = stored_form(reference);
        let old = self.catalog.references.insert(reference.clone(), id);
        if old == Some(id) {
            return None;
        }
        self.changes.push(Change::PutReference(reference.clone(), id));
        let tagged = self.catalog.images.get(&id).filter(|_| reference.digest().is_none());
        if let Some(record) = tagged {
            let record = ImageRecord { last_tagged: Some(now), ..(**record).clone() };
            self.replace(id, record);
        }
        old
    }

    pub(super) fn remove_reference(&mut self, reference: &Reference) {
        if self.catalog.references.remove(reference).is_some() {
            self.changes.push(Change::RemoveReference(reference.clone()));
        }
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An image id that starts with `prefix`.
    pub(in crate::images) fn id(prefix: &str) -> ImageId {
        Digest::from_hex(&format!("{prefix:0<64}")).expect("a digest")
    }

    pub(in crate::images) fn record(layers: &[&str]) -> ImageRecord {
        let layers: Vec<Digest> = layers.iter().map(|l| id(l)).collect();
        ImageRecord {
            layer_sizes: vec![10; layers.len()],
            chain_ids: layers.iter().map(|l| ChainId::of(None, l)).collect(),
            diff_ids: layers,
            platform: Platform::host(),
            created: None,
            labels: None,
            parent: None,
            manifests: BTreeSet::new(),
            last_tagged: None,
            detached: false,
        }
    }

    pub(in crate::images) fn catalog(images: &[(&str, &[&str])]) -> Catalog {
        let mut draft = Draft::of(&Catalog::default());
        for (prefix, names) in images {
            draft.put_image(id(prefix), record(&["aa"]));
            for name in *names {
                draft.put_reference(&name.parse().expect("a reference"), id(prefix), DateTime::UNIX_EPOCH);
            }
        }
        draft.catalog
    }

    #[test]
    fn names_come_before_ids() {
        let digest = format!("sha256:{}", "7".repeat(64));
        let pinned = format!("web@{digest}");
        let catalog = catalog(&[("ab1", &["busybox", "reg:5000/x:1"]), ("ab2", &["ab1", &pinned]), ("cd", &[])]);
        for (name, want) in [
            ("busybox", "ab1"),
            ("docker.io/library/busybox:latest", "ab1"),
            ("reg:5000/x:1", "ab1"),
            ("ab1", "ab2"),
            ("sha256:ab1", "ab1"),
            ("cd", "cd"),
            ("c", "cd"),
            ("sha256:cd0", "cd"),
            (&pinned, "ab2"),
            (&format!("web:tag@{digest}"), "ab2"),
            (&id("cd").hex(), "cd"),
            (&id("cd").to_string(), "cd"),
        ] {
            assert_eq!(catalog.resolve(name).ok(), Some(id(want)), "{name}");
        }
        for (name, text) in [
            ("nope", "No such image: nope:latest"),
            ("nope:1", "No such image: nope:1"),
            ("ce", "No such image: ce:latest"),
            ("ab", "multiple IDs found with provided prefix: ab"),
            ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
            (&id("ee").hex(), &format!("No such image: {}", id("ee"))),
        ] {
            assert_eq!(catalog.resolve(name).map_err(|e| e.to_string()), Err(text.to_owned()), "{name}");
        }
    }

    #[test]
    fn a_draft_remembers_what_to_store_and_nothing_else() {
        let before = catalog(&[("aa", &["x"]), ("bb", &[])]);
        let mut draft = Draft::of(&before);
        draft.put_image(id("bb"), record(&["aa"]));
        let x: Reference = "x".parse().expect("a reference");
        assert_eq!(draft.put_reference(&x, id("aa"), DateTime::UNIX_EPOCH), None);
        assert!(draft.changes.is_empty());
        assert_eq!(draft.put_reference(&x, id("bb"), DateTime::UNIX_EPOCH), Some(id("aa")));
        assert_eq!(draft.changes.len(), 2);
        assert_eq!(before.resolve("x").ok(), Some(id("aa")), "readers are not disturbed");
    }

    #[test]
    fn references_to_nothing_are_found() {
        let x: Reference = "x:1".parse().expect("a reference");
        let (catalog, lost) = Catalog::new([(id("aa"), record(&[]))], [(x.clone(), id("bb"))]);
        assert_eq!(lost, [x]);
        assert_eq!(catalog.len(), 1);
    }
}

//! The records of images and of the references that point to them, in memory.
//!
//! A [`Catalog`] is a value: readers hold one and see a consistent state for as long as they like; a writer changes a [`Draft`] of
//! it, which remembers what has to be written to the database in one commit. Invariants: every reference leads to at least one
//! image ([`Target`]), and to none that is not in the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, Utc};
use serde::{Deserialize, Serialize};
use skep_store::ChainId;
use skep_types::{Digest, Platform, Reference};

use super::artifact::{Artifact, Attached};
use super::target::{Member, Target, stored_form};
use super::{ImageError, Result, platform};
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
    /// What it is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact: Option<Artifact>,
    /// What came with it and says something about one of its manifests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) attached: Vec<Attached>,
}

impl ImageRecord {
    /// Bytes of all layers, or of an artifact's blobs.
    pub(super) fn size(&self) -> u64 {
        self.layer_sizes.iter().sum::<u64>() + self.artifact.as_ref().map_or(0, Artifact::size)
    }

    /// Artifacts: itself, if it is one, and those attached to it.
    pub(super) fn artifacts(&self) -> impl Iterator<Item = &Artifact> {
        self.artifact.iter().chain(self.attached.iter().map(|attached| &attached.artifact))
    }

    /// Blobs that are not unpacked, with their sizes.
    pub(super) fn kept_blobs(&self) -> impl Iterator<Item = (Digest, u64)> {
        self.artifacts().flat_map(|artifact| &artifact.blobs).map(|blob| (blob.digest, blob.size))
    }

    /// All blobs that it needs beside its configuration.
    pub(super) fn documents(&self) -> impl Iterator<Item = Digest> {
        let artifacts = self.artifacts().flat_map(Artifact::documents).map(|document| document.digest);
        self.manifests.iter().copied().chain(artifacts)
    }

    /// The time it was made, for sorting; images that don't say come last.
    pub(super) fn created_at(&self) -> DateTime<Utc> {
        self.created.map_or(DateTime::<Utc>::MIN_UTC, |time| time.to_utc())
    }
}

/// All images and references.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalog {
    pub(super) images: BTreeMap<ImageId, Arc<ImageRecord>>,
    /// Removed images that containers still use.
    pub(super) detached: BTreeMap<ImageId, Arc<ImageRecord>>,
    pub(super) references: BTreeMap<Reference, Arc<Target>>,
}

impl Catalog {
    /// Puts together what was stored. Images of references that aren't there are left out; references that have none left are
    /// returned.
    pub(super) fn new(
        images: impl IntoIterator<Item = (ImageId, ImageRecord)>,
        references: impl IntoIterator<Item = (Reference, Target)>,
    ) -> (Self, Vec<Reference>) {
        let all = images.into_iter().map(|(id, record)| (id, Arc::new(record)));
        let (detached, images): (BTreeMap<_, _>, BTreeMap<_, _>) = all.partition(|(_, record)| record.detached);
        let known = references.into_iter().map(|(reference, mut target)| {
            target.images.retain(|member| images.contains_key(&member.id));
            (reference, target)
        });
        let (good, lost): (Vec<_>, Vec<_>) = known.partition(|(_, target)| !target.images.is_empty());
        let references = good.into_iter().map(|(reference, target)| (reference, Arc::new(target))).collect();
        let catalog = Catalog { images, detached, references };
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

    /// What a reference leads to; `latest` if it has neither tag nor digest. A digest wins over a tag.
    pub(super) fn target(&self, reference: &Reference) -> Option<&Arc<Target>> {
        self.references.get(&stored_form(reference))
    }

    /// The image that a reference means where no platform is asked for.
    pub(super) fn reference(&self, reference: &Reference) -> Option<ImageId> {
        self.target(reference)?.first()
    }

    /// The references that lead to an image, on any platform, sorted.
    pub(super) fn references_of<'a>(&'a self, id: &'a ImageId) -> impl Iterator<Item = &'a Reference> {
        self.targets_of(id).map(|(reference, _)| reference)
    }

    /// As [`references_of`](Self::references_of), with all that each of them leads to.
    pub(super) fn targets_of<'a>(&'a self, id: &'a ImageId) -> impl Iterator<Item = (&'a Reference, &'a Arc<Target>)> {
        self.references.iter().filter(move |(_, target)| target.has(id))
    }

    /// Whether names lead to the image only by its platform: it is shown with the image that the names mean.
    pub(super) fn is_secondary(&self, id: &ImageId) -> bool {
        let mut targets = self.targets_of(id).peekable();
        targets.peek().is_some() && targets.all(|(_, target)| target.first() != Some(*id))
    }

    /// The image and those of other platforms that share a name with it.
    pub(super) fn family(&self, id: &ImageId) -> BTreeSet<ImageId> {
        let members = self.targets_of(id).flat_map(|(_, target)| &target.images);
        members.map(|member| member.id).chain([*id]).collect()
    }

    /// All tags of a repository.
    pub(super) fn tags_of_repository(&self, repository: &Reference) -> Vec<(Reference, Arc<Target>)> {
        let name = repository.canonical_name();
        let of = self.references.iter().filter(|(r, _)| r.digest().is_none() && r.canonical_name() == name);
        of.map(|(reference, target)| (reference.clone(), Arc::clone(target))).collect()
    }

    /// Tags and digests that lead to an image, as people write them.
    pub(super) fn names_of(&self, id: &ImageId) -> (Vec<String>, Vec<String>) {
        let (digests, tags): (Vec<_>, Vec<_>) = self.references_of(id).partition(|r| r.digest().is_some());
        let familiar = |list: Vec<&Reference>| list.into_iter().map(Reference::familiar).collect();
        (familiar(tags), familiar(digests))
    }

    /// What an image was made for.
    pub(super) fn platform_of(&self, member: &Member) -> Option<Platform> {
        self.any_image(&member.id).map(|record| member.platform(record))
    }

    /// Images built from this one.
    pub(super) fn has_children(&self, id: &ImageId) -> bool {
        self.images.values().any(|record| record.parent.as_ref() == Some(id))
    }

    /// The image of a name, an id, or a unique prefix of an id: in this order. The digest of a manifest or an index stands for
    /// the image that it describes.
    pub(super) fn resolve(&self, name: &str) -> Result<ImageId> {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if let Ok(id) = Digest::from_hex(hex) {
            let found = if self.images.contains_key(&id) { Some(id) } else { self.by_manifest(&id) };
            return found.ok_or_else(|| ImageError::NotFound(id.to_string()));
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

    /// As [`resolve`](Self::resolve), and of the images under that name, or under the names of that id, the best for `wished`.
    pub(super) fn resolve_for(&self, name: &str, wished: Option<&Platform>) -> Result<ImageId> {
        let id = self.resolve(name)?;
        let Some(wished) = wished else { return Ok(id) };
        let target = self.target_named(name)?;
        self.best_of(&target, wished).ok_or_else(|| ImageError::other_platform(name, wished))
    }

    /// The image of a target that serves `wished` best.
    pub(super) fn best_of(&self, target: &Target, wished: &Platform) -> Option<ImageId> {
        let rated = target.images.iter().rev().filter_map(|member| {
            let offered = self.platform_of(member)?;
            Some((platform::rate(wished, &offered)?, member.id))
        });
        // Of equals the last here, which is the first of the target.
        rated.max_by_key(|(rate, _)| *rate).map(|(_, id)| id)
    }

    /// What a name stands for as a whole. For an id: what the names lead to that mean this image, the one with the most platforms;
    /// else the image alone.
    pub(super) fn target_named(&self, name: &str) -> Result<Target> {
        let id = self.resolve(name)?;
        let named = name.parse::<Reference>().ok().and_then(|reference| self.target(&reference));
        if let Some(target) = named {
            return Ok(Target::clone(target));
        }
        let meant = self.targets_of(&id).map(|(_, target)| target).filter(|target| target.first() == Some(id));
        if let Some(target) = meant.max_by_key(|target| (target.images.len(), target.digest())) {
            return Ok(Target::clone(target));
        }
        let member = self.targets_of(&id).find_map(|(_, target)| target.images.iter().find(|member| member.id == id));
        Ok(match member {
            Some(member) => Target { descriptor: member.manifest.clone(), images: vec![member.clone()] },
            None => Target::of_image(id),
        })
    }

    fn by_manifest(&self, digest: &Digest) -> Option<ImageId> {
        let is = |descriptor: &skep_registry::Descriptor| descriptor.digest == *digest;
        let member =
            |target: &Arc<Target>| target.images.iter().find(|m| m.manifest.as_ref().is_some_and(is)).map(|m| m.id);
        let mut targets = self.references.values();
        targets.find_map(|target| {
            target.descriptor.as_ref().filter(|d| is(d)).and(target.first()).or_else(|| member(target))
        })
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

    /// Blobs that are kept as they came, each once, with their sizes.
    pub(super) fn kept_blobs(&self) -> BTreeMap<Digest, u64> {
        self.all().flat_map(|(_, record)| record.kept_blobs()).collect()
    }

    /// Digests of all blobs that images need: configurations and manifests.
    pub(super) fn blobs_in_use(&self) -> BTreeSet<Digest> {
        let images = self.all().flat_map(|(id, record)| record.documents().chain([*id]));
        images.chain(self.references.values().flat_map(|target| target.blobs())).collect()
    }
}

/// Whether `name`, which leads to the image, is its id or the beginning of it, or a manifest's digest: no whole digest is a name.
pub(super) fn is_id_prefix(id: &ImageId, name: &str) -> bool {
    let is_digest = Digest::from_hex(name.strip_prefix("sha256:").unwrap_or(name)).is_ok();
    is_digest || id.to_string().starts_with(name) || id.hex().starts_with(name)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::draft::Draft;
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
            artifact: None,
            attached: Vec::new(),
        }
    }

    pub(in crate::images) fn catalog(images: &[(&str, &[&str])]) -> Catalog {
        let mut draft = Draft::of(&Catalog::default());
        for (prefix, names) in images {
            draft.put_image(id(prefix), record(&["aa"]));
            for name in *names {
                let target = Target::of_image(id(prefix));
                draft.put_reference(&name.parse().expect("a reference"), target, None);
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
        assert_eq!(draft.put_reference(&x, Target::of_image(id("aa")), None), None);
        assert!(draft.changes.is_empty());
        assert_eq!(draft.put_reference(&x, Target::of_image(id("bb")), None), Some(id("aa")));
        assert_eq!(draft.changes.len(), 1);
        let now = Some(DateTime::UNIX_EPOCH);
        assert_eq!(draft.put_reference(&x, Target::of_image(id("aa")), now), Some(id("bb")));
        assert_eq!(draft.changes.len(), 3, "the time, too");
        assert_eq!(before.resolve("x").ok(), Some(id("aa")), "readers are not disturbed");
    }

    #[test]
    fn references_to_nothing_are_found() {
        let x: Reference = "x:1".parse().expect("a reference");
        let (catalog, lost) = Catalog::new([(id("aa"), record(&[]))], [(x.clone(), Target::of_image(id("bb")))]);
        assert_eq!(lost, [x]);
        assert_eq!(catalog.len(), 1);
    }
}

//! What a reference leads to: the document that it names, and the images of that document that are here.
//!
//! ```text
//! busybox:latest ─► Target ─ descriptor ─► index (a blob, as it was served)
//!                     │                      ├─ manifest linux/amd64 ─► configuration = image id
//!                     └─ images              ├─ manifest linux/arm64 ─► configuration = image id
//!                          amd64, arm64      └─ manifest linux/s390x      (not pulled)
//! ```
//! An image's id is the digest of its configuration, whatever the number of platforms under a name: an id that a script has seen
//! stays good when another platform of the same name comes or goes. The first image of a target, the one that serves this machine
//! best, is what the name means unless a platform is asked for.

use serde::{Deserialize, Serialize};
use skep_registry::Descriptor;
use skep_types::{Digest, Platform, Reference};

use super::catalog::ImageRecord;
use super::platform;
use crate::model::image::ImageId;

/// What a reference leads to. As it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Target {
    /// The index or manifest that the name stands for, as it was pulled or loaded; its blob is in the store. Absent for an image
    /// that was made here or came without a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) descriptor: Option<Descriptor>,
    /// The images that are here, best for this machine first. Never empty; no image twice.
    pub(super) images: Vec<Member>,
}

/// One image of a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Member {
    /// The image.
    pub(super) id: ImageId,
    /// Its manifest within the target, with the platform that an index gives it; its blob is in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifest: Option<Descriptor>,
}

impl Target {
    /// Of an image without a manifest.
    pub(super) fn of_image(id: ImageId) -> Self {
        Target { descriptor: None, images: vec![Member { id, manifest: None }] }
    }

    /// The image that the name means where no platform is asked for.
    pub(super) fn first(&self) -> Option<ImageId> {
        self.images.first().map(|member| member.id)
    }

    pub(super) fn has(&self, id: &ImageId) -> bool {
        self.images.iter().any(|member| member.id == *id)
    }

    /// Digest of the index or manifest.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.descriptor.as_ref().map(|descriptor| descriptor.digest)
    }

    /// Blobs that the name needs beside those of its images.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Digest> {
        let manifests = self.images.iter().filter_map(|member| member.manifest.as_ref());
        self.descriptor.iter().chain(manifests).map(|descriptor| descriptor.digest)
    }

    /// What a name leads to that led to `self` and is now given to `new`: another pull of the same document adds its images,
    /// and an image without a manifest doesn't make a name forget the manifest it has.
    pub(super) fn renewed(&self, new: Target) -> Target {
        if new.descriptor.is_none() {
            return if new.first() == self.first() { self.clone() } else { new };
        }
        if new.digest() != self.digest() {
            return new;
        }
        let mut images = new.images;
        images.extend(
            self.images.iter().filter(|old| !images.iter().any(|new| old.id == new.id)).cloned().collect::<Vec<_>>(),
        );
        Target { descriptor: new.descriptor, images }
    }

    /// Puts the image that serves this machine best first, the others in the order of their platforms.
    pub(super) fn sort_by(&mut self, platform: impl Fn(&Member) -> Platform) {
        let host = Platform::host();
        self.images.sort_by_cached_key(|member| {
            let platform = platform(member);
            (std::cmp::Reverse(platform::rate(&host, &platform)), platform.to_string(), member.id)
        });
    }
}

impl Member {
    /// What the image was made for: as its configuration says; the variant, which many leave out there, as the index says.
    pub(super) fn platform(&self, record: &ImageRecord) -> Platform {
        let own = &record.platform;
        let said = self.manifest.as_ref().and_then(|manifest| manifest.platform.as_ref());
        match said
            .filter(|said| own.variant.is_empty() && (&said.os, &said.architecture) == (&own.os, &own.architecture))
        {
            Some(said) => said.clone(),
            None => own.clone(),
        }
    }
}

/// References are stored with exactly one of tag and digest.
pub(super) fn stored_form(reference: &Reference) -> Reference {
    match reference.digest() {
        Some(digest) => reference.with_digest(digest),
        None => reference.or_latest(),
    }
}

/// A reference of the past that was stored with one image only (schema version 1).
pub(super) fn from_version_1(value: serde_json::Value) -> Result<serde_json::Value, String> {
    let id: ImageId = serde_json::from_value(value).map_err(|e| e.to_string())?;
    serde_json::to_value(Target::of_image(id)).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::catalog::Catalog;
    use super::super::catalog::tests::{id, record};
    use super::super::draft::Draft;
    use super::*;

    fn descriptor(digest: &str, platform: Option<&str>) -> Descriptor {
        Descriptor {
            media_type: skep_registry::media_type::OCI_MANIFEST.to_owned(),
            digest: id(digest),
            size: 7,
            platform: platform.map(|text| text.parse().expect("a platform")),
            annotations: Default::default(),
        }
    }

    fn pulled(draft: &mut Draft, name: &str, index: &str, image: &str, platform: &str) -> Option<ImageId> {
        let mut made = record(&["aa"]);
        made.platform = platform.parse().expect("a platform");
        // Many configurations leave the variant out.
        made.platform.variant.clear();
        draft.put_image(id(image), made);
        let manifest = Some(descriptor(&format!("{image}f"), Some(platform)));
        let target =
            Target { descriptor: Some(descriptor(index, None)), images: vec![Member { id: id(image), manifest }] };
        draft.put_reference(&name.parse().expect("a name"), target, None)
    }

    fn foreign() -> &'static str {
        if Platform::host().architecture == "arm64" { "linux/riscv64" } else { "linux/arm64/v8" }
    }

    #[test]
    fn platforms_of_one_index_gather_under_a_name() {
        let host = Platform::host().to_string();
        let mut draft = Draft::of(&Catalog::default());
        assert_eq!(pulled(&mut draft, "x:1", "1", "b1", foreign()), None);
        assert_eq!(draft.catalog.resolve("x:1").ok(), Some(id("b1")), "alone it is what the name means");
        assert_eq!(pulled(&mut draft, "x:1", "1", "a1", &host), Some(id("b1")));
        pulled(&mut draft, "x:1", "1", "b2", "linux/s390x");
        let catalog = &draft.catalog;
        let resolve = |name: &str, platform: &str| {
            catalog.resolve_for(name, Some(&platform.parse().expect("a platform"))).map_err(|e| e.to_string())
        };
        assert_eq!(catalog.resolve("x:1").ok(), Some(id("a1")), "the host's is what the name means");
        for (name, platform, want) in [
            ("x:1", host.as_str(), "a1"),
            ("x:1", foreign(), "b1"),
            ("x:1", "linux/s390x", "b2"),
            ("a1", "linux/s390x", "b2"),
            ("b2", "linux/s390x", "b2"),
        ] {
            assert_eq!(resolve(name, platform), Ok(id(want)), "{name} {platform}");
        }
        let missing = "image with reference x:1 was found but does not provide the specified platform (linux/mips)";
        assert_eq!(resolve("x:1", "linux/mips"), Err(missing.to_owned()));
        assert!(resolve("b2", &host).is_err(), "the id of one platform is that platform");
        // The digests of the index and of manifests lead there, too.
        assert_eq!(catalog.resolve(&id("1").to_string()).ok(), Some(id("a1")));
        assert_eq!(catalog.resolve(&id("b2f").hex()).ok(), Some(id("b2")));
        let secondary: Vec<_> = ["a1", "b1", "b2"].map(|image| catalog.is_secondary(&id(image))).into();
        assert_eq!(secondary, [false, true, true]);
    }

    #[test]
    fn another_index_takes_the_name_over() {
        let mut draft = Draft::of(&Catalog::default());
        let host = Platform::host().to_string();
        pulled(&mut draft, "x:1", "1", "a1", &host);
        pulled(&mut draft, "x:1", "1", "b1", foreign());
        assert_eq!(pulled(&mut draft, "x:1", "2", "a2", &host), Some(id("a1")));
        let target = draft.catalog.target_named("x:1").expect("a target");
        assert_eq!(target.images.iter().map(|member| member.id).collect::<Vec<_>>(), [id("a2")]);
        assert!(draft.catalog.references_of(&id("b1")).next().is_none(), "the old ones have lost their name");
    }

    #[test]
    fn an_image_without_a_manifest_does_not_hide_one() {
        let mut draft = Draft::of(&Catalog::default());
        pulled(&mut draft, "x:1", "1", "a1", &Platform::host().to_string());
        let stored = draft.changes.len();
        let name = "x:1".parse().expect("a name");
        draft.put_reference(&name, Target::of_image(id("a1")), None);
        assert_eq!(draft.changes.len(), stored);
        assert_eq!(draft.catalog.target(&name).and_then(|target| target.digest()), Some(id("1")));
    }

    #[test]
    fn what_version_1_stored_is_read() {
        let old = serde_json::json!(id("a1"));
        let new = from_version_1(old).expect("a target");
        assert_eq!(serde_json::from_value::<Target>(new).expect("a target"), Target::of_image(id("a1")));
    }
}

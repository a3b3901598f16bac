//! What there is behind a name: one entry for each manifest of an index, whether its image is here or not.

use skep_registry::{Descriptor, Manifest, media_type};
use skep_types::Digest;

use super::Inner;
use super::catalog::Catalog;
use super::target::{Member, Target};
use crate::model::image::{ManifestKind, ManifestSummary};

/// BuildKit's mark on a manifest that says something of another one.
const KIND: &str = "vnd.docker.reference.type";
const ABOUT: &str = "vnd.docker.reference.digest";

impl Inner {
    /// The manifests of a target. None for an image that never had one.
    pub(super) fn manifests(&self, catalog: &Catalog, target: &Target) -> Vec<ManifestSummary> {
        let Some(top) = &target.descriptor else { return Vec::new() };
        let listed = match top.media_type.as_str() {
            media_type::OCI_INDEX | media_type::DOCKER_LIST => self.listed(top),
            _ => vec![top.clone()],
        };
        let mut summaries: Vec<ManifestSummary> =
            listed.into_iter().map(|descriptor| self.manifest(catalog, target, descriptor)).collect();
        // What came through an index in the index.
        for member in &target.images {
            let shown = summaries.iter().any(|summary| summary.image() == Some(member.id));
            if let Some(descriptor) = member.manifest.clone().filter(|_| !shown) {
                summaries.push(self.manifest(catalog, target, descriptor));
            }
        }
        summaries
    }

    /// What an index lists. An index that can't be read lists nothing: what is here of it is shown all the same.
    fn listed(&self, top: &Descriptor) -> Vec<Descriptor> {
        let parsed =
            self.store.blobs().read(&top.digest).ok().and_then(|raw| Manifest::parse(&raw, &top.media_type).ok());
        match parsed {
            Some(Manifest::Index(index)) => index.manifests.into_iter().filter(is_leaf).collect(),
            Some(Manifest::Image(_) | Manifest::Artifact(_)) | None => Vec::new(),
        }
    }

    fn manifest(&self, catalog: &Catalog, target: &Target, descriptor: Descriptor) -> ManifestSummary {
        let is = |member: &&Member| member.manifest.as_ref().is_some_and(|own| own.digest == descriptor.digest);
        if let Some(member) = target.images.iter().find(is)
            && let Some(record) = catalog.any_image(&member.id)
        {
            let config = self.store.blobs().size(&member.id).ok().flatten().unwrap_or(0);
            let kind = ManifestKind::Image { platform: Some(member.platform(record)), id: Some(member.id) };
            let (content, unpacked) = (descriptor.size + config, record.size());
            return ManifestSummary { descriptor, kind, content, unpacked };
        }
        if !is_attestation(&descriptor) {
            let kind = ManifestKind::Image { platform: descriptor.platform.clone(), id: None };
            return ManifestSummary { descriptor, kind, content: 0, unpacked: 0 };
        }
        let records = target.images.iter().filter_map(|member| catalog.any_image(&member.id));
        let mut artifacts = records.flat_map(|record| &record.attached).map(|attached| &attached.artifact);
        let here = artifacts.find(|artifact| artifact.manifest.digest == descriptor.digest);
        let content = here.map_or(0, |artifact| artifact.manifest.size + artifact.size());
        let kind = ManifestKind::Attestation { about: attestation_about(&descriptor) };
        ManifestSummary { descriptor, kind, content, unpacked: 0 }
    }
}

fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.annotations.get(KIND).is_some_and(|kind| kind == "attestation-manifest")
}

/// The manifest that another of the same index says something about.
pub(super) fn attestation_about(descriptor: &Descriptor) -> Option<Digest> {
    let about = descriptor.annotations.get(ABOUT).filter(|_| is_attestation(descriptor));
    about.and_then(|text| text.parse().ok())
}

fn is_leaf(descriptor: &Descriptor) -> bool {
    !matches!(descriptor.media_type.as_str(), media_type::OCI_INDEX | media_type::DOCKER_LIST)
}

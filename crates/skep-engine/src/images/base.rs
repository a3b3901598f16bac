//! Images that builds begin with: found without their layers, which come only when a step runs on them.

use std::sync::Arc;

use skep_registry::{Credentials, Descriptor, ImageManifest, Manifest, Repository};
use skep_store::ChainId;
use skep_types::{Digest, Platform, Reference};

use super::change::Claim;
use super::config::ConfigFile;
use super::pull::{self, Chosen, Progress};
use super::{ImageError, Images, Result};

/// An image without its layers.
pub(crate) struct Base {
    pub(crate) platform: Platform,
    /// The manifest or index under its name, if it has one.
    pub(crate) digest: Option<Digest>,
    /// The bytes of its configuration.
    pub(crate) config: Vec<u8>,
    /// Its layers.
    pub(crate) chain: Option<ChainId>,
    /// Where its layers are to be had, unless they are here.
    pub(crate) remote: Option<Remote>,
}

/// Where layers are to be had.
#[derive(Clone)]
pub(crate) struct Remote {
    repository: Repository,
    reference: Reference,
    manifest: ImageManifest,
    diff_ids: Vec<Digest>,
}

/// Keeps layers that no image has yet.
pub(crate) struct Kept(#[expect(dead_code, reason = "its end lets the layers go")] Arc<Claim>);

impl Images {
    /// How registries and web servers are spoken to.
    pub(crate) fn registry(&self) -> &skep_registry::RegistryConfig {
        &self.inner.registry
    }

    /// The image of this name that is here, for `platform`.
    pub(crate) fn base_here(&self, reference: &Reference, platform: &Platform) -> Result<Option<Base>> {
        let catalog = self.inner.catalog();
        let name = reference.familiar();
        let id = match catalog.resolve_for(&name, Some(platform)) {
            Ok(id) => id,
            Err(ImageError::NotFound(_) | ImageError::OtherPlatform { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (record, _) = self.inner.open_image(&catalog, id)?;
        if super::platform::rate(platform, &record.platform).is_none() {
            return Ok(None);
        }
        let descriptor: Option<Descriptor> = catalog.target_named(&name).ok().and_then(|target| target.descriptor);
        Ok(Some(Base {
            platform: record.platform.clone(),
            digest: descriptor.map(|descriptor| descriptor.digest),
            config: self.inner.store.blobs().read(&id)?,
            chain: record.chain_ids.last().copied(),
            remote: None,
        }))
    }

    /// The image of this name that its registry has, for `platform`.
    pub(crate) async fn base_there(
        &self,
        reference: &Reference,
        platform: &Platform,
        credentials: Option<&Credentials>,
    ) -> Result<Base> {
        let inner = &self.inner;
        let reference = super::target::stored_form(reference);
        let repository = Repository::connect(&inner.registry, &reference, credentials).await?;
        let served = repository.manifest(&reference.selector()).await?;
        let digest = served.digest;
        let Chosen { served, documents, .. } = pull::choose(&repository, served, Some(platform)).await?;
        let Manifest::Image(manifest) = served.manifest else {
            return Err(ImageError::Invalid(format!("{} is no image", reference.familiar())));
        };
        let digests = documents.iter().map(|(digest, _)| *digest).collect();
        inner.guards.admit_pull(&repository, &reference, digests).await?;
        let (config, parsed): (Vec<u8>, ConfigFile) = pull::configuration(inner, &repository, &manifest).await?;
        let diff_ids = parsed.rootfs.diff_ids.clone();
        let chain = ChainId::chain(&diff_ids).last().copied();
        let remote = Some(Remote { repository, reference, manifest, diff_ids });
        Ok(Base { platform: parsed.platform(), digest: Some(digest), config, chain, remote })
    }

    /// Brings the layers of such an image here.
    pub(crate) async fn fetch_base(&self, remote: &Remote, progress: &Progress) -> Result<Kept> {
        let claim = Arc::new(Claim::on(&self.inner, &ChainId::chain(&remote.diff_ids)));
        let plans = pull::plan(&remote.manifest, &remote.diff_ids, false, progress)?;
        pull::fetch_layers(&self.inner, &claim, &remote.repository, plans).await?;
        let blobs = remote.diff_ids.iter().copied().zip(remote.manifest.layers.iter().cloned()).collect();
        super::sources::remember_pulled(&self.inner, &remote.reference, blobs).await;
        Ok(Kept(claim))
    }
}

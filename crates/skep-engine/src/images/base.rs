//! Images that builds begin with: found without their layers, which come only when a step runs on them.

use std::fs::File;
use std::sync::Arc;

use skep_registry::{Credentials, Descriptor, ImageManifest, Manifest, Repository};
use skep_store::{ChainId, UnpackOptions};
use skep_types::{Digest, Platform, Reference};

use super::change::{Claim, run_blocking};
use super::config::ConfigFile;
use super::pull::{self, Chosen, Progress};
use super::{ImageError, Images, Result};
use skep_policy::Source;

/// The media type of a cache's configuration.
pub(crate) const CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
/// The largest one that is read, in bytes.
const MAX_CACHE_CONFIG: u64 = 64 << 20;

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

    /// Whether an image of a layout that a client has may come in.
    pub(crate) async fn admit_layout(&self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        run_blocking(move || inner.guards.admit_archive(Source::OciLayout)).await
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

    /// What a registry has under the name of a cache: the cache, or none if it is an image.
    pub(crate) async fn cache_there(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Option<CacheThere>> {
        let reference = super::target::stored_form(reference);
        let repository = Repository::connect(&self.inner.registry, &reference, credentials).await?;
        let served = repository.manifest(&reference.selector()).await?;
        let Some((config, layers)) = cache_of(&served.manifest) else { return Ok(None) };
        let config = repository.small_blob(&config, MAX_CACHE_CONFIG).await?;
        Ok(Some(CacheThere { repository, reference, config, layers }))
    }

    /// Unpacks layers that came from elsewhere; each file is a layer's blob, the lowest first. Layers that are here need none.
    pub(crate) async fn keep_layers(&self, layers: Vec<(Digest, Descriptor, Option<File>)>) -> Result<Kept> {
        let inner = Arc::clone(&self.inner);
        run_blocking(move || {
            let diff_ids: Vec<Digest> = layers.iter().map(|(diff_id, ..)| *diff_id).collect();
            let chains = ChainId::chain(&diff_ids);
            let claim = Claim::on(&inner, &chains);
            let mut below: Option<ChainId> = None;
            for ((diff_id, blob, file), chain) in layers.into_iter().zip(chains) {
                if let Some(file) = file.filter(|_| !matches!(inner.store.layers().get(&chain), Ok(Some(_)))) {
                    let (digest, size, diff_id) = (Some(blob.digest), Some(blob.size), Some(diff_id));
                    let options = UnpackOptions { digest, size, diff_id, limits: inner.guards.limits };
                    let staged = inner.store.layers().stage()?.unpack(file, &options)?;
                    inner.store.layers().commit(below.as_ref(), vec![staged])?;
                }
                below = Some(chain);
            }
            Ok(Kept(Arc::new(claim)))
        })
        .await
    }
}

/// A cache of builds in a registry.
pub(crate) struct CacheThere {
    repository: Repository,
    reference: Reference,
    /// Its configuration.
    pub(crate) config: Vec<u8>,
    /// The blobs of all its layers.
    pub(crate) layers: Vec<Descriptor>,
}

impl CacheThere {
    /// Some of its layers, the lowest first, to be fetched.
    pub(crate) fn remote(&self, layers: Vec<Descriptor>, diff_ids: Vec<Digest>) -> Remote {
        let config = Descriptor {
            media_type: CACHE_CONFIG.to_owned(),
            digest: super::digest_of(&self.config),
            size: self.config.len() as u64,
            platform: None,
            annotations: Default::default(),
        };
        let (repository, reference) = (self.repository.clone(), self.reference.clone());
        Remote { repository, reference, manifest: ImageManifest { config, layers }, diff_ids }
    }
}

/// The configuration and the layers of a cache: of a manifest, or of an index that lists them all.
pub(crate) fn cache_of(manifest: &Manifest) -> Option<(Descriptor, Vec<Descriptor>)> {
    let all = match manifest {
        Manifest::Artifact(artifact) => artifact.blobs.clone(),
        Manifest::Index(index) => index.manifests.clone(),
        Manifest::Image(_) => return None,
    };
    let (configs, layers): (Vec<_>, Vec<_>) = all.into_iter().partition(|blob| blob.media_type == CACHE_CONFIG);
    Some((configs.into_iter().next()?, layers))
}

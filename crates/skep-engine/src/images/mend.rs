//! Mending what a check found: what is damaged is fetched again, by its digest, from the registry that it came from; what nothing
//! needs goes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use skep_registry::{BlobPart, Descriptor, ImageManifest, Keyring, Manifest, Repository};
use skep_store::{ChainId, StagedLayer, UnpackOptions};
use skep_types::{Digest, Reference, Selector};

use super::bridge::feed;
use super::change::{Claim, run_blocking};
use super::config::MAX_CONFIG_SIZE;
use super::{ImageError, Images, Inner, Result, attach, records};
use crate::model::check::{Finding, Object, Outcome};
use crate::model::image::ImageId;

/// Where a manifest can be had: the name that led to it, and its digest.
type Origin = (Reference, Digest);

impl Images {
    /// Mends what concerns images; `running` are the layers that processes run on now.
    pub(crate) async fn mend(&self, finding: &Finding, running: &BTreeSet<ChainId>, keyring: &Keyring) -> Outcome {
        let inner = &self.inner;
        let result = match &finding.object {
            Object::Blob(digest) => inner.mend_blob(*digest, keyring).await,
            Object::Layer(chain) => inner.mend_layer(chain, running.contains(chain), keyring).await,
            Object::Reference(text) => records::forget(inner.store.db(), text).map(|()| "forgotten".to_owned()),
            Object::UnneededBlob(digest) => inner.remove_unneeded(digest).await,
            Object::UnneededLayer(_) => inner.collect_layers().map(|_| "deleted".to_owned()),
            Object::Stray(path) => inner.remove_stray(path.clone()).await,
            Object::Database
            | Object::Container(_)
            | Object::Volume(_)
            | Object::StrayContainer(_)
            | Object::StrayVolume(_) => return finding.outcome.clone(),
        };
        match result {
            Ok(done) if matches!(finding.object, Object::Layer(chain) if running.contains(&chain)) => {
                Outcome::Mended(format!("{done}; the containers that run on it have to be restarted to see it"))
            }
            Ok(done) => Outcome::Mended(done),
            Err(error) => Outcome::Lost(format!("{error}; {}", advice(finding))),
        }
    }
}

/// What to do about what can't be mended.
fn advice(finding: &Finding) -> String {
    let images: Vec<&str> =
        finding.needed_by.iter().map(String::as_str).filter(|name| !name.starts_with("container ")).collect();
    match images.as_slice() {
        [] => "remove the containers that need it".to_owned(),
        names => format!("remove {} (rmi --force) and pull or load it again", names.join(", ")),
    }
}

impl Inner {
    async fn remove_unneeded(self: &Arc<Self>, digest: &Digest) -> Result<String> {
        let _nobody_changes = self.writer.lock().await;
        if !self.catalog().blobs_in_use().contains(digest) {
            self.store.blobs().remove(digest)?;
        }
        Ok("deleted".to_owned())
    }

    async fn remove_stray(self: &Arc<Self>, path: PathBuf) -> Result<String> {
        let inner = Arc::clone(self);
        run_blocking(move || {
            // It may have come to be known.
            if inner.store.strays()?.iter().any(|stray| *stray.path() == path) {
                inner.store.trash().discard(&path)?;
            }
            Ok("deleted".to_owned())
        })
        .await
    }

    async fn mend_blob(self: &Arc<Self>, digest: Digest, keyring: &Keyring) -> Result<String> {
        let mut last = no_origin();
        for (reference, manifest) in self.origins(|id, blobs| *id == digest || blobs.contains(&digest)) {
            let fetched = async {
                let repository = self.connect(&reference, keyring).await?;
                if let Some(blob) = self.kept_blob(&digest) {
                    let staged = attach::download(self, &repository, &blob, None).await?;
                    return run_blocking(move || Ok(staged.publish()?)).await;
                }
                let bytes = if self.is_configuration(&digest) {
                    let config = image_manifest(&repository, &manifest).await?.config;
                    if config.digest != digest {
                        return Err(no_origin());
                    }
                    repository.small_blob(&config, MAX_CONFIG_SIZE).await?
                } else {
                    repository.manifest(&Selector::Digest(digest)).await?.raw
                };
                let inner = Arc::clone(self);
                run_blocking(move || Ok(inner.store.blobs().put(&bytes, Some(&digest)).map(drop)?)).await
            };
            match fetched.await {
                Ok(()) => return Ok(format!("fetched again from {}", reference.familiar_name())),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn mend_layer(self: &Arc<Self>, chain: &ChainId, in_use: bool, keyring: &Keyring) -> Result<String> {
        let mut last = no_origin();
        let (chain, claim) = (*chain, Arc::new(Claim::on(self, &[*chain])));
        for (id, at) in self.images_with(&chain) {
            for (reference, manifest) in self.origins(|image, _| *image == id) {
                let fetched = async {
                    let repository = self.connect(&reference, keyring).await?;
                    let manifest = image_manifest(&repository, &manifest).await?;
                    let blob = manifest.layers.get(at).ok_or_else(no_origin)?;
                    self.unpack_again(&repository, blob, id, at).await
                };
                match fetched.await {
                    Ok(staged) => {
                        let (inner, claim) = (Arc::clone(self), Arc::clone(&claim));
                        let below = self.catalog().any_image(&id).and_then(|r| Some(r.chain_ids[at.checked_sub(1)?]));
                        run_blocking(move || {
                            let _held = claim;
                            let layers = inner.store.layers();
                            match layers.get(&chain)? {
                                Some(_) => layers.replace(&chain, staged, in_use)?,
                                None => drop(layers.commit(below.as_ref(), vec![staged])?),
                            }
                            Ok(())
                        })
                        .await?;
                        return Ok(format!("fetched again from {}", reference.familiar_name()));
                    }
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    /// Downloads and unpacks the layer number `at` of an image.
    async fn unpack_again(
        self: &Arc<Self>,
        repository: &Repository,
        blob: &Descriptor,
        id: ImageId,
        at: usize,
    ) -> Result<StagedLayer> {
        let diff_id = self.catalog().any_image(&id).and_then(|record| record.diff_ids.get(at).copied());
        let options = UnpackOptions { diff_id, limits: self.guards.limits, ..UnpackOptions::default() };
        let layers = self.store.layers().clone();
        let (feed, reader) = feed();
        let unpacking = run_blocking(move || Ok(layers.stage()?.unpack(reader, &options)?));
        let downloading = async {
            let mut blob = repository.blob(blob);
            while let Some(part) = blob.next().await? {
                let BlobPart::Data(data) = part else { continue };
                if feed.send(data).await.is_err() {
                    return Ok(());
                }
            }
            feed.finish().await;
            Ok::<_, ImageError>(())
        };
        let (downloaded, unpacked) = tokio::join!(downloading, unpacking);
        downloaded?;
        unpacked
    }

    async fn connect(&self, reference: &Reference, keyring: &Keyring) -> Result<Repository> {
        Ok(Repository::connect(&self.registry, reference, keyring.find(reference.registry())).await?)
    }

    /// Whether it is the configuration of an image rather than a manifest.
    fn is_configuration(&self, digest: &Digest) -> bool {
        self.catalog().any_image(digest).is_some_and(|record| record.artifact.is_none())
    }

    /// What points to a blob that is kept as it came.
    fn kept_blob(&self, digest: &Digest) -> Option<Descriptor> {
        let catalog = self.catalog();
        let records = catalog.images().map(|(_, record)| record);
        let mut blobs = records.flat_map(|record| record.artifacts()).flat_map(|artifact| &artifact.blobs);
        blobs.find(|blob| blob.digest == *digest).cloned()
    }

    /// The images that have a layer, and its number in each.
    fn images_with(&self, chain: &ChainId) -> Vec<(ImageId, usize)> {
        let catalog = self.catalog();
        let all = catalog.images.iter().chain(&catalog.detached);
        all.filter_map(|(id, record)| Some((*id, record.chain_ids.iter().position(|other| other == chain)?))).collect()
    }

    /// Where manifests can be had of the images that are wanted, by their ids and the blobs that they need.
    fn origins(&self, wanted: impl Fn(&ImageId, &BTreeSet<Digest>) -> bool) -> Vec<Origin> {
        let catalog = self.catalog();
        let mut found = Vec::new();
        for (reference, target) in &catalog.references {
            let named: BTreeSet<Digest> = target.blobs().collect();
            for member in &target.images {
                let own = catalog.image(&member.id).into_iter().flat_map(|record| record.documents());
                let blobs = named.iter().copied().chain(own).collect();
                if let Some(manifest) = member.manifest.as_ref().filter(|_| wanted(&member.id, &blobs)) {
                    found.push((reference.clone(), manifest.digest));
                }
            }
        }
        // One attempt for each repository and manifest.
        found.sort_by_key(|(reference, digest)| (reference.canonical_name(), *digest));
        found.dedup_by_key(|(reference, digest)| (reference.canonical_name(), *digest));
        found
    }
}

fn no_origin() -> ImageError {
    ImageError::Invalid("it came from no registry that is known".to_owned())
}

async fn image_manifest(repository: &Repository, digest: &Digest) -> Result<ImageManifest> {
    match repository.manifest(&Selector::Digest(*digest)).await?.manifest {
        Manifest::Image(manifest) => Ok(manifest),
        Manifest::Index(_) | Manifest::Artifact(_) => {
            Err(ImageError::Invalid("the manifest is none of an image".to_owned()))
        }
    }
}

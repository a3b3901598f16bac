//! What builds made: images of the catalog, or archives. The layers are in the store, and whoever calls keeps them there.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use skep_store::ChainId;
use skep_types::Reference;
use tokio_stream::wrappers::ReceiverStream;

use super::archive::write::{self, OutgoingImage, OutgoingLayer, OutgoingTarget};
use super::bridge::StreamWriter;
use super::build::NewImage;
use super::change::{Claim, run_blocking};
use super::config::ConfigFile;
use super::target::{Member, Target};
use super::{Images, Result, digest_of};
use crate::model::image::ImageId;

impl Images {
    /// Stores images, one for each platform, under all of `names`. `parents` are images that the first was made from here, the oldest
    /// first, each with its own parent; none but for the classic builder.
    pub(crate) async fn store_built(
        &self,
        configs: Vec<Vec<u8>>,
        names: &[Reference],
        parents: Vec<Vec<u8>>,
    ) -> Result<Vec<ImageId>> {
        let inner = Arc::clone(&self.inner);
        let (claim, images, made_from) = run_blocking(move || {
            // A stored image has durable layers.
            inner.store.layers().flush()?;
            let claim = Arc::new(Claim::on(&inner, &[]));
            let made = |config: Vec<u8>| {
                let parsed = ConfigFile::parse(&config)?;
                let chains = ChainId::chain(&parsed.rootfs.diff_ids);
                claim.add(&chains);
                let size = |chain: &ChainId| {
                    let info = inner.store.layers().get(chain)?;
                    Ok(info.ok_or(skep_store::StoreError::NoLayer(*chain))?.size)
                };
                let layer_sizes = chains.iter().map(size).collect::<Result<_>>()?;
                Ok(NewImage { config, parsed, layer_sizes, manifests: Vec::new(), attached: Vec::new() })
            };
            let parents = parents.into_iter().map(made).collect::<Result<Vec<_>>>()?;
            let images = configs.into_iter().map(made).collect::<Result<Vec<_>>>()?;
            Ok((claim, images, parents))
        })
        .await?;
        let mut writer = self.inner.write().await;
        let mut before: Option<ImageId> = None;
        for image in made_from {
            let id = image.add_to(&mut writer);
            if let Some(before) = before.replace(id) {
                writer.draft.set_parent(&id, &before);
            }
        }
        let ids: Vec<ImageId> = images.into_iter().map(|image| image.add_to(&mut writer)).collect();
        if let (Some(before), Some(first)) = (before, ids.first()) {
            writer.draft.set_parent(first, &before);
        }
        let members: Vec<Member> = ids.iter().map(|id| Member { id: *id, manifest: None }).collect();
        if !members.is_empty() {
            for name in names {
                let target = Target { descriptor: None, images: members.clone() };
                writer.draft.put_reference(name, target, Some(chrono::Utc::now()));
            }
        }
        writer.commit_claimed(claim).await?;
        for id in &ids {
            self.inner.uses.touch(*id);
        }
        for (name, id) in names.iter().zip(ids.first().into_iter().cycle()) {
            self.inner.tell("tag", id, id.to_string(), name.or_latest().familiar());
        }
        Ok(ids)
    }

    /// The same as one archive of `docker save`, which is an OCI layout too, with `names` for tags. Nothing is stored.
    pub(crate) async fn write_built(
        &self,
        configs: Vec<Vec<u8>>,
        names: BTreeSet<Reference>,
    ) -> Result<ReceiverStream<Result<Bytes>>> {
        let inner = Arc::clone(&self.inner);
        let (claim, target) = run_blocking(move || {
            let claim = Claim::on(&inner, &[]);
            let image = |config: Vec<u8>| {
                let parsed = ConfigFile::parse(&config)?;
                let chains = ChainId::chain(&parsed.rootfs.diff_ids);
                claim.add(&chains);
                let layers = parsed.rootfs.diff_ids.iter().zip(&chains).map(|(diff_id, chain_id)| {
                    let info = inner.store.layers().get(chain_id)?;
                    let info = info.ok_or(skep_store::StoreError::NoLayer(*chain_id))?;
                    Ok(OutgoingLayer { diff_id: *diff_id, chain_id: *chain_id, size: info.tar_size })
                });
                let layers = layers.collect::<Result<_>>()?;
                Ok(OutgoingImage { id: digest_of(&config), config, platform: parsed.platform(), layers })
            };
            let images = configs.into_iter().map(image).collect::<Result<Vec<_>>>()?;
            let (attached, subjects) = Default::default();
            Ok((claim, OutgoingTarget { images, tags: names, artifact: None, attached, subjects }))
        })
        .await?;
        let (writer, receiver) = StreamWriter::new();
        let layers = self.inner.store.layers().clone();
        tokio::task::spawn_blocking(move || {
            let _claim = claim;
            let mut writer = writer;
            let open = |layer: &OutgoingLayer| Ok(Box::new(layers.tar_stream(&layer.chain_id)?) as Box<dyn Read>);
            let result = write::write(&[target], open, &mut writer);
            writer.end(result);
        });
        Ok(ReceiverStream::new(receiver))
    }

    /// Takes away layers that nothing needs any more.
    pub(crate) async fn collect_unneeded(&self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        run_blocking(move || inner.collect_layers().map(drop)).await
    }

    /// Whether an image with this id is here.
    pub(crate) fn has(&self, id: &ImageId) -> bool {
        self.inner.catalog().image(id).is_some()
    }

    /// Whether an image has the layers up to `chain`.
    pub(crate) fn layers_of_images(&self) -> BTreeSet<ChainId> {
        let catalog = self.inner.catalog();
        catalog.images().flat_map(|(_, record)| record.chain_ids.iter().copied()).collect()
    }
}

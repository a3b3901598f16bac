//! An image of one layer, from an archive of files.

use std::sync::Arc;

use futures_util::StreamExt;
use skep_policy::Source;
use skep_store::UnpackOptions;
use skep_types::Platform;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::bridge::feed;
use super::build::NewImage;
use super::change::{Claim, run_blocking};
use super::config::{ConfigFile, ContainerDefaults, HistoryStep, RootFs};
use super::target::Target;
use super::{ImageError, Inner, Result, changes};
use crate::model::image::{ImageId, ImportImage, ImportProgress};

/// Bytes between two reports.
const TICK: u64 = 512 * 1024;

pub(super) async fn import(
    inner: &Arc<Inner>,
    source: impl AsyncRead + Send + Unpin,
    options: ImportImage,
) -> Result<ImageId> {
    let defaults = check(&options)?;
    read(inner, source, options, defaults).await
}

/// As [`import`], from a web server.
pub(super) async fn fetch(
    inner: &Arc<Inner>,
    url: &str,
    options: ImportImage,
    progress: mpsc::Sender<ImportProgress>,
) -> Result<ImageId> {
    let defaults = check(&options)?;
    let download = skep_registry::download(&inner.registry, url).await?;
    // Nobody listening is no reason to stop.
    let _ = progress.send(ImportProgress::Downloading(url.to_owned())).await;
    let (mut current, mut told, total) = (0, 0, download.size.unwrap_or(0));
    let pieces = download.into_stream().map(move |piece| {
        let piece = piece.map_err(std::io::Error::other)?;
        current += piece.len() as u64;
        if current - told >= TICK || current == total {
            told = current;
            // A slow listener misses some.
            let _ = progress.try_send(ImportProgress::Reading { current, total });
        }
        Ok::<_, std::io::Error>(piece)
    });
    let message = if options.message.is_empty() { format!("Imported from {url}") } else { options.message.clone() };
    read(inner, StreamReader::new(Box::pin(pieces)), ImportImage { message, ..options }, defaults).await
}

/// The settings of the image, or what is wrong with the request.
fn check(options: &ImportImage) -> Result<ContainerDefaults> {
    if options.reference.as_ref().is_some_and(|reference| reference.digest().is_some()) {
        return Err(ImageError::Invalid("cannot import digest reference".to_owned()));
    }
    let mut defaults = ContainerDefaults::default();
    changes::apply(&mut defaults, &options.changes)?;
    Ok(defaults)
}

async fn read(
    inner: &Arc<Inner>,
    source: impl AsyncRead + Send + Unpin,
    options: ImportImage,
    defaults: ContainerDefaults,
) -> Result<ImageId> {
    let claim = Arc::new(Claim::on(inner, &[]));
    let (feed, reader) = feed();
    let unpacking = {
        let (inner, claim) = (Arc::clone(inner), Arc::clone(&claim));
        run_blocking(move || {
            inner.guards.admit_archive(Source::Tarball)?;
            let layers = inner.store.layers();
            let options = UnpackOptions { limits: inner.guards.limits, ..UnpackOptions::default() };
            let staged = layers.stage()?.unpack(reader, &options)?;
            let (diff_id, size) = (staged.diff_id, staged.size);
            claim.add(&[skep_store::ChainId::of(None, &diff_id)]);
            layers.commit(None, vec![staged])?;
            Ok((diff_id, size))
        })
    };
    let (copied, unpacked) = tokio::join!(feed.copy(source), unpacking);
    copied?;
    let (diff_id, size) = unpacked?;

    let file = configuration(&options, defaults, diff_id);
    let config = serde_json::to_vec(&file).map_err(std::io::Error::from)?;
    let mut writer = inner.write().await;
    let image = NewImage { config, parsed: file, layer_sizes: vec![size], manifests: Vec::new(), attached: Vec::new() };
    let id = image.add_to(&mut writer);
    if let Some(reference) = &options.reference {
        writer.draft.put_reference(reference, Target::of_image(id), Some(chrono::Utc::now()));
    }
    writer.commit_claimed(claim).await?;
    Ok(id)
}

fn configuration(options: &ImportImage, defaults: ContainerDefaults, diff_id: skep_types::Digest) -> ConfigFile {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let comment = if options.message.is_empty() { "Imported from -".to_owned() } else { options.message.clone() };
    let created = Some(chrono::Utc::now().fixed_offset());
    ConfigFile {
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        comment: comment.clone(),
        config: Some(defaults),
        created,
        history: vec![HistoryStep { created, comment, ..HistoryStep::default() }],
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
        ..ConfigFile::default()
    }
}

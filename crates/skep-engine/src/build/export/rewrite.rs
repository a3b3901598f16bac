//! Layers whose files are no younger than the epoch (`rewrite-timestamp`): made again from the archives of those that the build made.

use std::any::Any;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use skep_build::BuildError;
use skep_build::image::ImageConfig;
use skep_store::{ChainId, StoreError, UnpackOptions};

use super::super::error::{blocking, failed, store};
use crate::engine::Inner;
use crate::images::built::Made;

/// Puts other layers into an image above the first `base`, which are another image's; what is returned keeps them here.
pub(super) async fn rewrite(
    engine: &Arc<Inner>,
    made: &mut Made,
    base: usize,
    epoch: DateTime<Utc>,
) -> Result<Box<dyn Any + Send + Sync>, BuildError> {
    let (inner, diff_ids) = (Arc::clone(engine), made.diff_ids.clone());
    let latest = u64::try_from(epoch.timestamp()).unwrap_or(0);
    let (diff_ids, lease) = blocking(move || {
        let layers = inner.storage.store().layers();
        let lease = layers.lease();
        let chains = ChainId::chain(&diff_ids);
        let mut rewritten = diff_ids[..base.min(diff_ids.len())].to_vec();
        for chain in &chains[rewritten.len()..] {
            let below = ChainId::chain(&rewritten).last().copied();
            let archive = layers.tar_stream(chain).map_err(store)?;
            let (reader, writer) = std::io::pipe().map_err(failed("make a pipe"))?;
            let staged = std::thread::scope(|scope| {
                let writing = scope.spawn(move || skep_fs::retime::retime(archive, writer, latest));
                let staged = layers.stage()?.unpack(reader, &UnpackOptions::default());
                match writing.join() {
                    Ok(Ok(())) => staged,
                    Ok(Err(error)) => Err(StoreError::Stream(error)),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            });
            let staged = staged.map_err(store)?;
            let diff_id = staged.diff_id;
            lease.hold(&ChainId::of(below.as_ref(), &diff_id));
            layers.commit_pending(below.as_ref(), staged).map_err(store)?;
            rewritten.push(diff_id);
        }
        Ok((rewritten, lease))
    })
    .await?;
    let mut config = ImageConfig::parse(&made.config)?;
    config.rootfs.diff_ids.clone_from(&diff_ids);
    (made.config, made.diff_ids) = (config.to_bytes()?, diff_ids);
    Ok(Box::new(lease))
}

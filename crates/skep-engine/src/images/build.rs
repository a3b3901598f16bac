//! An image that is being put together: from a registry, an archive of images, or an archive of files.

use std::collections::BTreeSet;

use skep_store::ChainId;
use skep_types::Digest;

use super::artifact::NewAttached;
use super::catalog::ImageRecord;
use super::change::Writer;
use super::config::ConfigFile;
use super::digest_of;
use crate::model::image::ImageId;

/// All of an image but its layers' files, which are in the store already.
#[derive(Debug)]
pub(super) struct NewImage {
    /// The configuration's bytes.
    pub(super) config: Vec<u8>,
    /// The configuration, read.
    pub(super) parsed: ConfigFile,
    /// Bytes of each layer, base first.
    pub(super) layer_sizes: Vec<u64>,
    /// Manifests and indexes that it came with.
    pub(super) manifests: Vec<(Digest, Vec<u8>)>,
    /// What came with it about its manifests.
    pub(super) attached: Vec<NewAttached>,
}

impl NewImage {
    /// Adds the image to what will be committed.
    pub(super) fn add_to(self, writer: &mut Writer) -> ImageId {
        let id = digest_of(&self.config);
        let diff_ids = self.parsed.rootfs.diff_ids.clone();
        let record = ImageRecord {
            chain_ids: ChainId::chain(&diff_ids),
            diff_ids,
            layer_sizes: self.layer_sizes,
            platform: self.parsed.platform(),
            created: self.parsed.created,
            labels: self.parsed.config.as_ref().map(|config| config.labels.clone()),
            parent: None,
            manifests: self.manifests.iter().map(|(digest, _)| *digest).collect::<BTreeSet<_>>(),
            last_tagged: None,
            detached: false,
            artifact: None,
            attached: self.attached.iter().map(NewAttached::record).collect(),
        };
        writer.draft.put_image(id, record);
        writer.blobs.push((id, self.config));
        writer.blobs.extend(self.manifests);
        self.attached.into_iter().for_each(|attached| attached.store_in(writer));
        id
    }
}

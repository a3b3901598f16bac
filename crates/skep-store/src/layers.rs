//! Image layers by chain id.
use std::io::{self, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use skep_fs::apply::Limits;
use skep_types::Digest;

use crate::chain::ChainId;
use crate::db::Db;
use crate::error::StoreError;
use crate::trash::Trash;

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// The layer below.
    pub parent: Option<ChainId>,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Bytes of its files' contents.
    pub size: u64,
    /// Bytes of its archive.
    pub tar_size: u64,
    /// Name of its directory below `layers`.
    pub(crate) dir: String,
    /// Whether it hides all layers below.
    #[serde(default)]
    pub(crate) opaque: bool,
}

/// What a stream has to be, and may cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnpackOptions {
    /// Digest of the stream as it comes (compressed).
    pub digest: Option<Digest>,
    /// Length of the stream as it comes.
    pub size: Option<u64>,
    /// Digest of the archive when decompressed.
    pub diff_id: Option<Digest>,
    /// What unpacking may cost.
    pub limits: Limits,
}

/// The layers of a data root.
#[derive(Debug, Clone)]
pub struct Layers {
    dir: PathBuf,
    staging: PathBuf,
    db: Db,
    trash: Trash,
}

/// A layer about to be unpacked, independently of the layers below it.
#[derive(Debug)]
pub struct Staging {
    layers: Layers,
}

/// A layer unpacked but not yet visible. Dropped, it is gone.
#[derive(Debug)]
pub struct StagedLayer {
    /// Digest of the stream as it came.
    pub digest: Digest,
    /// Length of the stream as it came.
    pub compressed_size: u64,
    /// Digest of the archive.
    pub diff_id: Digest,
    /// Length of the archive.
    pub tar_size: u64,
    /// Bytes of its files' contents.
    pub size: u64,
}

/// Keeps layers from being collected while it lives.
#[derive(Debug)]
pub struct LayerLease {}

/// A layer's archive, byte by byte as it was; reading fails at the end if it isn't.
#[derive(Debug)]
pub struct LayerTar {}

impl Read for LayerTar {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl LayerTar {
    /// Bytes that there are to read in all.
    pub fn size(&self) -> u64 {
        0
    }
}

impl LayerLease {
    /// Keeps this layer, and so all below it.
    pub fn hold(&self, chain: &ChainId) {
        let _ = chain;
    }
}

impl Staging {
    /// Unpacks a layer: `input` is its archive, plain, gzip or zstd. Hashing, decompressing and writing overlap on threads
    /// of their own. On any failure nothing stays.
    pub fn unpack(self, input: impl Read + Send, options: &UnpackOptions) -> Result<StagedLayer, StoreError> {
        let _ = (input, options, self.layers.staging);
        Err(StoreError::Stream(io::ErrorKind::Unsupported.into()))
    }
}

impl Layers {
    pub(crate) fn open(dir: PathBuf, staging: PathBuf, db: Db, trash: Trash) -> Result<Self, StoreError> {
        Ok(Layers { dir, staging, db, trash })
    }

    /// Starts a layer; several can be unpacked at a time, in any order.
    pub fn stage(&self) -> Result<Staging, StoreError> {
        Ok(Staging { layers: self.clone() })
    }

    /// Makes unpacked layers visible: `layers` is lowest first, the first one on top of `parent`. Their data reaches the
    /// disk before. Layers that are there already are dropped. Returns the chain id of each.
    pub fn commit(&self, parent: Option<&ChainId>, layers: Vec<StagedLayer>) -> Result<Vec<ChainId>, StoreError> {
        let _ = (parent, layers);
        Err(StoreError::Stream(io::ErrorKind::Unsupported.into()))
    }

    /// What is known of a layer, `None` if there is no such layer.
    pub fn get(&self, chain: &ChainId) -> Result<Option<LayerInfo>, StoreError> {
        let _ = (chain, &self.db);
        Ok(None)
    }

    /// All layers.
    pub fn list(&self) -> Result<Vec<(ChainId, LayerInfo)>, StoreError> {
        Ok(Vec::new())
    }

    /// The directories of a stack, topmost first, as overlayfs wants them.
    pub fn lower_dirs(&self, chain: &ChainId) -> Result<Vec<PathBuf>, StoreError> {
        let _ = &self.dir;
        Err(StoreError::NoLayer(*chain))
    }

    /// A layer's archive, as it was pulled or loaded, without its compression.
    pub fn tar_stream(&self, chain: &ChainId) -> Result<LayerTar, StoreError> {
        Err(StoreError::NoLayer(*chain))
    }

    /// A lease: layers that it holds stay until it is dropped, named by an image yet or not.
    pub fn lease(&self) -> LayerLease {
        LayerLease {}
    }

    /// Removes a layer. Refused while another layer stands on it.
    pub fn remove(&self, chain: &ChainId) -> Result<(), StoreError> {
        let _ = &self.trash;
        Err(StoreError::NoLayer(*chain))
    }

    /// Removes all layers that neither `used` (topmost layers of images and containers) nor a lease needs; returns them.
    pub fn collect(&self, used: &[ChainId]) -> Result<Vec<ChainId>, StoreError> {
        let _ = used;
        Ok(Vec::new())
    }
}

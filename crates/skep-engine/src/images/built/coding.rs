//! How layers are written, and what blobs come of it.
//!
//! The blobs are not kept: the same layer gives the same bytes each time, so it is enough to know their digest until they are sent.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use parking_lot::Mutex;
use skep_fs::decode::Compression;
use skep_registry::Descriptor;
use skep_store::{ChainId, Layers, Sha256};
use skep_types::Digest;

use super::super::change::run_blocking;
use super::super::push::document::uploaded_type;
use super::super::{Images, Result};
use super::documents::plain;
use crate::model::image::LayerCompression;

/// Blobs that are remembered.
const KNOWN: usize = 4096;

/// A compression with its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Coding {
    pub(crate) compression: LayerCompression,
    /// Its usual one if there is none.
    pub(crate) level: Option<i32>,
}

impl Coding {
    /// Writes `archive` to `out`.
    pub(in crate::images) fn encode(self, archive: impl Read, out: impl Write) -> io::Result<()> {
        let compression = match self.compression {
            LayerCompression::None => Compression::Plain,
            LayerCompression::Gzip => Compression::Gzip,
            LayerCompression::Zstd => Compression::Zstd,
        };
        skep_fs::encode::encode_at(archive, out, compression, self.level)
    }
}

/// Digests and sizes of what layers become.
#[derive(Debug, Default)]
pub(in crate::images) struct Coded(Mutex<HashMap<(Digest, Coding), (Digest, u64)>>);

impl Images {
    /// The blobs that the layers of an image are when they are written like this.
    pub(crate) async fn describe_layers(&self, diff_ids: &[Digest], coding: Coding) -> Result<Vec<Descriptor>> {
        let stacked: Vec<_> = diff_ids.iter().copied().zip(ChainId::chain(diff_ids)).collect();
        self.describe_stacked(&stacked, coding).await
    }

    /// The same of layers of any stacks, each with the stack that ends with it.
    pub(crate) async fn describe_stacked(
        &self,
        stacked: &[(Digest, ChainId)],
        coding: Coding,
    ) -> Result<Vec<Descriptor>> {
        let (inner, stacked) = (self.inner.clone(), stacked.to_vec());
        run_blocking(move || {
            let layers = inner.store.layers();
            let describe = |(diff_id, chain): &(Digest, ChainId)| {
                let (digest, size) = inner.coded.describe(layers, *diff_id, chain, coding)?;
                Ok(plain(uploaded_type(coding.compression), digest, size))
            };
            stacked.iter().map(describe).collect()
        })
        .await
    }
}

impl Coded {
    /// Digest and size of a layer's blob; it is made for that if nobody remembers.
    fn describe(&self, layers: &Layers, diff_id: Digest, chain: &ChainId, coding: Coding) -> Result<(Digest, u64)> {
        if coding.compression == LayerCompression::None {
            let info = layers.get(chain)?.ok_or(skep_store::StoreError::NoLayer(*chain))?;
            return Ok((diff_id, info.tar_size));
        }
        if let Some(known) = self.0.lock().get(&(diff_id, coding)) {
            return Ok(*known);
        }
        let mut sum = Sum { hasher: Sha256::default(), size: 0 };
        coding.encode(layers.tar_stream(chain)?, &mut sum)?;
        let made = (sum.hasher.finish(), sum.size);
        let mut known = self.0.lock();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert((diff_id, coding), made);
        Ok(made)
    }
}

/// Counts and hashes what is written.
struct Sum {
    hasher: Sha256,
    size: u64,
}

impl Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! A layer's archive, made again.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use skep_fs::Root;
use skep_fs::split::SplitReader;
use skep_types::Digest;

use super::Layers;
use crate::chain::{ChainId, digest_context, finished};
use crate::error::StoreError;

/// A layer's archive, byte by byte as it was; reading fails at the end if it isn't.
pub struct LayerTar {
    inner: SplitReader,
    size: u64,
    diff_id: Digest,
    context: Option<aws_lc_rs::digest::Context>,
}

impl std::fmt::Debug for LayerTar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerTar").field("diff_id", &self.diff_id).finish_non_exhaustive()
    }
}

impl Layers {
    /// A layer's archive, as it was pulled or loaded, without its compression.
    pub fn tar_stream(&self, chain: &ChainId) -> Result<LayerTar, StoreError> {
        let info = self.get(chain)?.ok_or(StoreError::NoLayer(*chain))?;
        let dir = self.dir.join(&info.dir);
        let open = || -> io::Result<SplitReader> {
            let moved: Vec<(u64, Vec<u8>)> = match std::fs::read(dir.join("moved")) {
                Ok(json) => serde_json::from_slice(&json)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(error),
            };
            let kept = if moved.is_empty() { None } else { Some(Root::open(&dir.join("kept"))?) };
            let moved = moved.into_iter().map(|(at, path)| (at, PathBuf::from(OsString::from_vec(path)))).collect();
            SplitReader::new(File::open(dir.join("split"))?, Root::open(&dir.join("fs"))?, kept, moved)
        };
        let inner = open().map_err(|source| StoreError::io("open", &dir, source))?;
        Ok(LayerTar { inner, size: info.tar_size, diff_id: info.diff_id, context: Some(digest_context()) })
    }
}

impl LayerTar {
    /// Bytes that there are to read in all.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for LayerTar {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        if count > 0 {
            if let Some(context) = &mut self.context {
                context.update(&out[..count]);
            }
        } else if !out.is_empty()
            && let Some(context) = self.context.take()
            && finished(context) != self.diff_id
        {
            let message = format!("the layer {} was changed on the disk: its archive has another digest", self.diff_id);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(count)
    }
}

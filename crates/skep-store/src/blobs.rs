//! Content by digest, one file each.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::Context;
use skep_fs::atomic::{random_name, sync_dir};
use skep_types::Digest;

use crate::chain::{digest_context, finished};
use crate::crash::crash_point;
use crate::error::StoreError;
use crate::trash::children;

/// The blobs of a data root.
#[derive(Debug, Clone)]
pub struct Blobs {
    dir: PathBuf,
    staging: PathBuf,
}

impl Blobs {
    pub(crate) fn new(dir: PathBuf, staging: PathBuf) -> Self {
        Blobs { dir, staging }
    }

    /// Starts a new blob. Write to it, then commit it; dropped without that, it is gone.
    pub fn ingest(&self) -> Result<Ingest, StoreError> {
        let path = self.staging.join(random_name());
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|source| StoreError::io("create", &path, source))?;
        Ok(Ingest { file, path, blobs: self.clone(), context: digest_context(), size: 0, finished: false })
    }

    /// Keeps a blob that is here from vanishing before it is published again; nothing if there is none.
    pub fn stage_again(&self, digest: &Digest) -> Result<Option<StagedBlob>, StoreError> {
        let path = self.staging.join(random_name());
        match std::fs::hard_link(self.path(digest), &path) {
            Ok(()) => Ok(Some(StagedBlob { digest: *digest, path, blobs: self.clone() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::io("link", &path, source)),
        }
    }

    /// Stores bytes that are at hand, checked against `expected` if there is one.
    pub fn put(&self, bytes: &[u8], expected: Option<&Digest>) -> Result<Digest, StoreError> {
        let mut ingest = self.ingest()?;
        ingest.write_all(bytes).map_err(|source| StoreError::io("write", &ingest.path, source))?;
        ingest.commit(expected, None)
    }

    /// Opens a blob for reading.
    pub fn open(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.path(digest);
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::NoBlob(*digest),
            _ => StoreError::io("open", &path, source),
        })
    }

    /// Reads a whole blob and verifies it: for configurations and manifests, which are small.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.open(digest)?
            .read_to_end(&mut bytes)
            .map_err(|source| StoreError::io("read", &self.path(digest), source))?;
        match crate::chain::sha256(&bytes) {
            got if got == *digest => Ok(bytes),
            got => Err(StoreError::DigestMismatch { wanted: *digest, got }),
        }
    }

    /// A blob's size in bytes, `None` if there is no such blob.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let path = self.path(digest);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::io("stat", &path, source)),
        }
    }

    /// Whether there is such a blob.
    pub fn contains(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.size(digest)?.is_some())
    }

    /// Deletes a blob. One that isn't there is no error.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("delete", &path, error)),
            _ => Ok(()),
        }
    }

    /// The digests of all blobs.
    pub fn list(&self) -> Result<Vec<Digest>, StoreError> {
        let paths = children(&self.dir)?;
        Ok(paths.iter().filter_map(|path| Digest::from_hex(path.file_name()?.to_str()?).ok()).collect())
    }

    /// Where the blobs are, for the check of names that are none.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }
}

/// A blob that is being written.
pub struct Ingest {
    file: File,
    path: PathBuf,
    blobs: Blobs,
    context: Context,
    size: u64,
    finished: bool,
}

impl Ingest {
    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes the blob visible under its digest, once it is on the disk. Refuses it when it doesn't have the digest or
    /// the size that were expected.
    pub fn commit(self, expected: Option<&Digest>, size: Option<u64>) -> Result<Digest, StoreError> {
        let staged = self.finish(expected, size)?;
        staged.publish()?;
        Ok(staged.digest)
    }

    /// As [`commit`](Self::commit), but the blob stays aside until it is published.
    pub fn finish(mut self, expected: Option<&Digest>, size: Option<u64>) -> Result<StagedBlob, StoreError> {
        if let Some(wanted) = size.filter(|wanted| *wanted != self.size) {
            return Err(StoreError::SizeMismatch { wanted, got: self.size });
        }
        let digest = finished(std::mem::replace(&mut self.context, digest_context()));
        if let Some(wanted) = expected.filter(|wanted| **wanted != digest) {
            return Err(StoreError::DigestMismatch { wanted: *wanted, got: digest });
        }
        self.file.sync_data().map_err(|source| StoreError::io("flush", &self.path, source))?;
        crash_point("blob-written");
        self.finished = true;
        Ok(StagedBlob { digest, path: std::mem::take(&mut self.path), blobs: self.blobs.clone() })
    }
}

/// A whole blob, on the disk but not visible yet. Dropped, it is gone, unless it was published.
#[derive(Debug)]
pub struct StagedBlob {
    digest: Digest,
    path: PathBuf,
    blobs: Blobs,
}

impl StagedBlob {
    /// Its digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Opens it for reading.
    pub fn open(&self) -> Result<File, StoreError> {
        File::open(&self.path).map_err(|source| StoreError::io("open", &self.path, source))
    }

    /// Makes it visible under its digest.
    pub fn publish(&self) -> Result<(), StoreError> {
        let renamed = std::fs::rename(&self.path, self.blobs.path(&self.digest));
        renamed.map_err(|source| StoreError::io("rename", &self.path, source))?;
        sync_dir(&self.blobs.dir).map_err(|source| StoreError::io("flush", &self.blobs.dir, source))
    }
}

impl Drop for StagedBlob {
    fn drop(&mut self) {
        // After a publication there is nothing left here, or a second name of the same file. What stays is swept when the store is
        // opened next.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("path", &self.path).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.context.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if !self.finished {
            // A file that stays is swept when the store is opened next.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_staged_comes_and_goes_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let (shown, aside) = (dir.path().join("blobs"), dir.path().join("staging"));
        for dir in [&shown, &aside] {
            std::fs::create_dir(dir).expect("a directory");
        }
        let blobs = Blobs::new(shown, aside.clone());
        let left = || std::fs::read_dir(&aside).expect("a directory").count();
        let stage = || {
            let mut ingest = blobs.ingest().expect("ingest");
            ingest.write_all(b"bytes").expect("written");
            ingest.finish(None, Some(5)).expect("staged")
        };
        let digest = *stage().digest();
        assert_eq!((left(), blobs.size(&digest).expect("a size")), (0, None), "dropped, it is gone");
        stage().publish().expect("published");
        let again = blobs.stage_again(&digest).expect("a link").expect("there");
        blobs.remove(&digest).expect("removed");
        again.publish().expect("published");
        let twice = blobs.stage_again(&digest).expect("a link").expect("there");
        twice.publish().expect("published");
        drop((again, twice));
        assert_eq!((left(), blobs.read(&digest).expect("read")), (0, b"bytes".to_vec()));
    }
}

//! Downloads of a cache that are not finished: `uploads/ALGORITHM-HEX.partial`.
//!
//! What broke off stays, and the next who wants the content goes on where it ended, also after a restart. Whether the bytes are the
//! right ones is known at the end, when all of them have been hashed; wrong ones go, and the next download begins anew. A lock on the file
//! says that somebody writes to it; who comes second has a file of its own.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::content::uploads::{Staged, Uploads, hash};
use crate::digest::{ContentDigest, Hasher};
use crate::error::{Code, Error, Result, refuse};

const SUFFIX: &str = ".partial";

/// A download's file, which nobody else writes to.
#[derive(Debug)]
pub(crate) struct Partial {
    file: File,
    place: Place,
    hasher: Hasher,
    size: u64,
}

#[derive(Debug)]
enum Place {
    /// Stays when the download breaks off.
    Kept(PathBuf),
    /// Goes with it.
    Own(Staged),
}

impl Uploads {
    /// The file for a download of content of `size` bytes, with what an earlier one has left.
    pub(crate) async fn partial(&self, digest: &ContentDigest, size: u64) -> Result<Partial> {
        let kept = self.dir().join(format!("{}-{}{SUFFIX}", digest.algorithm().name(), digest.hex()));
        let (own, algorithm) = (self.unfinished(), digest.algorithm());
        spawn_blocking(move || {
            let (mut file, place) = match locked(&kept, options().create(true))? {
                Some(file) => (file, Place::Kept(kept)),
                None => (options().create_new(true).open(&own)?, Place::Own(Staged(own))),
            };
            if file.metadata()?.len() > size {
                file.set_len(0)?;
            }
            let (hasher, size) = hash(&mut file, algorithm)?;
            Ok(Partial { file, place, hasher, size })
        })
        .await?
        .map_err(Error::Upload)
    }

    /// Removes downloads that nobody has gone on with since `before`; how many they were and what they held.
    pub(super) async fn expire_partials(&self, before: SystemTime) -> Result<(usize, u64)> {
        let dir = self.dir().to_owned();
        spawn_blocking(move || {
            let (mut count, mut bytes) = (0, 0);
            for entry in std::fs::read_dir(&dir)? {
                let entry = entry?;
                if !entry.file_name().to_str().is_some_and(|name| name.ends_with(SUFFIX)) {
                    continue;
                }
                let file = match locked(&entry.path(), &options()) {
                    Ok(Some(file)) => file,
                    Ok(None) => continue,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                let metadata = file.metadata()?;
                if metadata.modified()? < before {
                    std::fs::remove_file(entry.path())?;
                    count += 1;
                    bytes += metadata.len();
                }
            }
            Ok((count, bytes))
        })
        .await?
        .map_err(Error::Upload)
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

/// Opens a file for oneself alone; `None` if somebody else has it.
fn locked(path: &Path, options: &OpenOptions) -> io::Result<Option<File>> {
    loop {
        let file = options.open(path)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        // Who had it may have finished with it between the opening and the lock.
        let inode = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        if std::fs::metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|ours| inode(ours) == inode(there))) {
            return Ok(Some(file));
        }
    }
}

impl Partial {
    /// How many bytes there are.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    fn path(&self) -> &Path {
        match &self.place {
            Place::Kept(path) => path,
            Place::Own(staged) => staged.path(),
        }
    }

    /// Another view of the file, for who reads along.
    pub(crate) fn reader(&self) -> Result<File> {
        File::open(self.path()).map_err(Error::Upload)
    }

    /// Appends bytes. Those of a failed write are cut off, or hashed when the next comes.
    pub(crate) async fn write(mut self, bytes: Bytes) -> Result<Self> {
        let writing = move || {
            self.file.write_all(&bytes)?;
            self.hasher.update(&bytes);
            self.size += bytes.len() as u64;
            Ok(self)
        };
        spawn_blocking(writing).await?.map_err(Error::Upload)
    }

    /// Makes the bytes durable if they are the right ones, and removes them if not.
    pub(crate) async fn finish(self, expected: &ContentDigest) -> Result<Staged> {
        let Partial { file, place, hasher, .. } = self;
        let staged = match place {
            Place::Kept(path) => Staged(path),
            Place::Own(staged) => staged,
        };
        if hasher.finish() != *expected {
            return refuse(Code::Unavailable, "the upstream gave other bytes than those of the digest");
        }
        spawn_blocking(move || file.sync_all().map(|()| staged)).await?.map_err(Error::Upload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn what_broke_off_is_gone_on_with() {
        let dir = tempfile::tempdir().expect("a directory");
        let uploads = Uploads::open(dir.path().join("uploads")).expect("uploads");
        let digest = ContentDigest::of(Algorithm::Sha256, b"one two");
        block_on(async {
            let first = uploads.partial(&digest, 7).await.expect("a file");
            drop(first.write(Bytes::from_static(b"one ")).await.expect("written"));
            let uploads = Uploads::open(dir.path().join("uploads")).expect("uploads after a restart");
            let next = uploads.partial(&digest, 7).await.expect("a file");
            assert_eq!(next.size(), 4);
            // Somebody else at the same time begins anew, and leaves nothing.
            let other = uploads.partial(&digest, 7).await.expect("another file");
            assert_eq!(other.size(), 0);
            assert!(other.finish(&digest).await.is_err());
            let next = next.write(Bytes::from_static(b"two")).await.expect("written");
            let staged = next.finish(&digest).await.expect("the right bytes");
            assert_eq!(std::fs::read(staged.path()).expect("the file"), b"one two");
        });
        assert_eq!(std::fs::read_dir(dir.path().join("uploads")).expect("a directory").count(), 0);
    }

    #[test]
    fn what_nobody_goes_on_with_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let uploads = Uploads::open(dir.path().join("uploads")).expect("uploads");
        let digest = ContentDigest::of(Algorithm::Sha256, b"one two");
        block_on(async {
            let partial = uploads.partial(&digest, 7).await.expect("a file");
            let partial = partial.write(Bytes::from_static(b"xxxx")).await.expect("written");
            let later = SystemTime::now() + std::time::Duration::from_secs(60);
            assert_eq!(uploads.expire_partials(later).await.expect("looked"), (0, 0));
            drop(partial);
            assert_eq!(uploads.expire_partials(SystemTime::UNIX_EPOCH).await.expect("looked"), (0, 0));
            assert_eq!(uploads.expire_partials(later).await.expect("looked"), (1, 4));
            // More than there can be is of something else.
            let partial = uploads.partial(&digest, 9).await.expect("a file");
            drop(partial.write(Bytes::from_static(b"123456789")).await.expect("written"));
            assert_eq!(uploads.partial(&digest, 7).await.expect("a file").size(), 0);
        });
    }
}

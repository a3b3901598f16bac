//! Content as files: `ALGORITHM/XX/HEX`, where XX are the first two digits of HEX.
//!
//! A file gets its name by a rename after its bytes are on the disk, and the directory is synced after that.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::digest::{Algorithm, ContentDigest};
use crate::storage::{ContentStream, Pending, Storage, StorageError, Stored};

/// How much is read at once.
const PIECE: u64 = 256 << 10;

/// Content below a directory, on the same file system as the files that it is to adopt.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Makes the directory if it is missing.
    pub fn open(root: PathBuf) -> Result<Self, StorageError> {
        make_dir(&root)?;
        Ok(Directory { root })
    }

    fn path(&self, digest: &ContentDigest) -> PathBuf {
        let hex = digest.hex();
        self.root.join(digest.algorithm().name()).join(&hex[..2]).join(hex)
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StorageError {
    let path = path.to_owned();
    move |source| StorageError::File { what, path, source }
}

fn make_dir(path: &Path) -> Result<(), StorageError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make", path))
}

fn sync_dir(path: &Path) -> Result<(), StorageError> {
    skep_fs::atomic::sync_dir(path).map_err(failed("sync", path))
}

fn adopt(target: &Path, staged: &Path) -> Result<(), StorageError> {
    /// The shard can be removed, empty, between its making and its use; not for ever.
    const TRIES: usize = 100;
    let shard = target.parent().unwrap_or(target);
    let algorithm = shard.parent().unwrap_or(shard);
    for _ in 0..TRIES {
        if !shard.exists() {
            make_dir(shard)?;
            sync_dir(algorithm)?;
            sync_dir(algorithm.parent().unwrap_or(algorithm))?;
        }
        match std::fs::rename(staged, target) {
            Ok(()) => return sync_dir(shard),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && staged.exists() => {}
            Err(error) => return Err(failed("store", target)(error)),
        }
    }
    Err(failed("store", target)(std::io::ErrorKind::NotFound.into()))
}

impl Storage for Directory {
    fn adopt<'a>(&'a self, digest: &'a ContentDigest, staged: &'a Path) -> Pending<'a, ()> {
        let (target, staged) = (self.path(digest), staged.to_owned());
        Box::pin(async move { spawn_blocking(move || adopt(&target, &staged)).await? })
    }

    fn size<'a>(&'a self, digest: &'a ContentDigest) -> Pending<'a, Option<u64>> {
        let path = self.path(digest);
        Box::pin(async move {
            spawn_blocking(move || match std::fs::metadata(&path) {
                Ok(metadata) => Ok(Some(metadata.len())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(failed("look at", &path)(error)),
            })
            .await?
        })
    }

    fn read<'a>(&'a self, digest: &'a ContentDigest, range: Range<u64>) -> Pending<'a, ContentStream> {
        let (path, digest) = (self.path(digest), *digest);
        Box::pin(async move {
            let start = range.start;
            let opened = spawn_blocking(move || {
                let mut file = File::open(&path).map_err(|error| match error.kind() {
                    std::io::ErrorKind::NotFound => StorageError::Missing(digest),
                    _ => failed("open", &path)(error),
                })?;
                if start > 0 {
                    file.seek(SeekFrom::Start(start)).map_err(failed("read", &path))?;
                }
                Ok::<_, StorageError>((file, path))
            })
            .await??;
            let reader = Reader { file: opened.0, path: opened.1, digest, left: range.end.saturating_sub(start) };
            Ok(Box::pin(futures_util::stream::try_unfold(reader, |reader| async move { reader.next().await }))
                as ContentStream)
        })
    }

    fn remove<'a>(&'a self, digest: &'a ContentDigest) -> Pending<'a, ()> {
        let path = self.path(digest);
        Box::pin(async move {
            spawn_blocking(move || match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
                _ => {
                    // An empty shard goes too; one with content in it stays.
                    let _ = path.parent().map(std::fs::remove_dir);
                    Ok(())
                }
            })
            .await?
        })
    }

    fn list(&self) -> Pending<'_, Vec<Stored>> {
        let root = self.root.clone();
        Box::pin(async move { spawn_blocking(move || list(&root)).await? })
    }
}

/// A file that is being read.
struct Reader {
    file: File,
    path: PathBuf,
    digest: ContentDigest,
    left: u64,
}

impl Reader {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, StorageError> {
        if self.left == 0 {
            return Ok(None);
        }
        spawn_blocking(move || {
            let wanted = self.left.min(PIECE);
            let mut piece = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
            let read = (&mut self.file).take(wanted).read_to_end(&mut piece).map_err(failed("read", &self.path))?;
            self.left -= read as u64;
            // Less than the metadata says: better break off than send something else.
            if read == 0 { Err(StorageError::Damaged(self.digest)) } else { Ok(Some((piece.into(), self))) }
        })
        .await?
    }
}

fn list(root: &Path) -> Result<Vec<Stored>, StorageError> {
    let mut all = Vec::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        for shard in entries(&root.join(algorithm.name()))? {
            for file in entries(&shard)? {
                let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let Ok(digest) = format!("{}:{name}", algorithm.name()).parse() else { continue };
                // It may have been removed since its directory was read.
                let Ok(metadata) = file.metadata() else { continue };
                let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                let since = modified.and_then(|time| i64::try_from(time.as_millis()).ok()).unwrap_or_default();
                all.push(Stored { digest, size: metadata.len(), since });
            }
        }
    }
    Ok(all)
}

fn entries(path: &Path) -> Result<Vec<PathBuf>, StorageError> {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.map(|entry| Ok(entry.map_err(failed("list", path))?.path())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed("list", path)(error)),
    }
}

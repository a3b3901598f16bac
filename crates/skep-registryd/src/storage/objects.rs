//! Content in an S3-compatible object store: `PREFIX/ALGORITHM/HEX`.
//!
//! An object becomes visible when its upload is complete, which the store promises. Credentials come from the environment
//! (`AWS_ACCESS_KEY_ID` and so on), or from the machine's role. Only content lies there: metadata and unfinished uploads stay below
//! the root, so one registry has one bucket (or one prefix of it).

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::task::spawn_blocking;

use crate::digest::{Algorithm, ContentDigest};
use crate::storage::{ContentStream, Location, Pending, Storage, StorageError, Stored};

/// Larger content is sent in parts of this size. Stores take 10,000 parts: some 156 GiB.
const PART: usize = 16 << 20;

/// Content in a bucket.
#[derive(Debug, Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
}

impl Objects {
    /// Prepares for a place like `s3://BUCKET/PREFIX`; nothing is asked of the store yet.
    pub fn open(location: &Location) -> Result<Self, StorageError> {
        let (bucket, prefix) = location.bucket()?;
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        if let Some(endpoint) = &location.endpoint {
            let plain = endpoint.starts_with("http://");
            builder = builder.with_endpoint(endpoint).with_allow_http(plain);
        }
        if let Some(region) = &location.region {
            builder = builder.with_region(region);
        }
        let store = builder.build().map_err(failed("open"))?;
        Ok(Objects { store: Arc::new(store), prefix: Key::from(prefix) })
    }

    fn key(&self, digest: &ContentDigest) -> Key {
        self.prefix.clone().join(digest.algorithm().name()).join(digest.hex())
    }

    async fn send(&self, key: &Key, staged: &Path) -> Result<(), StorageError> {
        let open = |source| StorageError::File { what: "open", path: staged.to_owned(), source };
        let file = File::open(staged).map_err(open)?;
        let (mut file, first) = part(file, staged).await?;
        if first.len() < PART {
            self.store.put(key, first.into()).await.map_err(failed("store"))?;
            return Ok(());
        }
        let mut upload = self.store.put_multipart(key).await.map_err(failed("store"))?;
        let mut next = first;
        let sent = loop {
            let last = next.len() < PART;
            // One part after the other: the next is read when the one before is there, so memory stays bounded.
            if !next.is_empty()
                && let Err(error) = upload.put_part(PutPayload::from(next)).await
            {
                break Err(failed("store")(error));
            }
            if last {
                break upload.complete().await.map(drop).map_err(failed("store"));
            }
            match part(file, staged).await {
                Ok((again, read)) => (file, next) = (again, read),
                Err(error) => break Err(error),
            }
        };
        if sent.is_err() {
            // The first error tells what happened; parts that stay are for the bucket's own rules to expire.
            let _ = upload.abort().await;
        }
        sent
    }
}

/// Reads the next part of a file, short at its end.
async fn part(mut file: File, path: &Path) -> Result<(File, Vec<u8>), StorageError> {
    let path = path.to_owned();
    spawn_blocking(move || {
        let mut bytes = Vec::with_capacity(PART);
        match (&mut file).take(PART as u64).read_to_end(&mut bytes) {
            Ok(_) => Ok((file, bytes)),
            Err(source) => Err(StorageError::File { what: "read", path, source }),
        }
    })
    .await?
}

fn failed(what: &'static str) -> impl FnOnce(object_store::Error) -> StorageError {
    move |source| StorageError::Objects { what, source: Box::new(source) }
}

impl Storage for Objects {
    fn adopt<'a>(&'a self, digest: &'a ContentDigest, staged: &'a Path) -> Pending<'a, ()> {
        Box::pin(async move { self.send(&self.key(digest), staged).await })
    }

    fn size<'a>(&'a self, digest: &'a ContentDigest) -> Pending<'a, Option<u64>> {
        Box::pin(async move {
            match self.store.head(&self.key(digest)).await {
                Ok(found) => Ok(Some(found.size)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(failed("look at")(error)),
            }
        })
    }

    fn read<'a>(&'a self, digest: &'a ContentDigest, range: Range<u64>) -> Pending<'a, ContentStream> {
        Box::pin(async move {
            if range.is_empty() {
                return Ok(futures_util::stream::empty().boxed() as ContentStream);
            }
            let (key, digest, wanted) = (self.key(digest), *digest, range.end - range.start);
            let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
            let found = self.store.get_opts(&key, options).await.map_err(|error| match error {
                object_store::Error::NotFound { .. } => StorageError::Missing(digest),
                error => failed("read")(error),
            })?;
            if found.range.end - found.range.start != wanted {
                return Err(StorageError::Damaged(digest));
            }
            Ok(found.into_stream().map_err(failed_again).boxed() as ContentStream)
        })
    }

    fn remove<'a>(&'a self, digest: &'a ContentDigest) -> Pending<'a, ()> {
        Box::pin(async move {
            match self.store.delete(&self.key(digest)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(failed("remove")(error)),
            }
        })
    }

    fn list(&self) -> Pending<'_, Vec<Stored>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                let mut objects = self.store.list(Some(&self.prefix.clone().join(algorithm.name())));
                while let Some(object) = objects.try_next().await.map_err(failed("list"))? {
                    let name = object.location.filename().unwrap_or_default();
                    let Ok(digest) = format!("{}:{name}", algorithm.name()).parse() else { continue };
                    let since = object.last_modified.timestamp_millis();
                    all.push(Stored { digest, size: object.size, since });
                }
            }
            Ok(all)
        })
    }
}

fn failed_again(error: object_store::Error) -> StorageError {
    failed("read")(error)
}

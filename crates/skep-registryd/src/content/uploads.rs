//! Uploads that are not finished: a directory each, which outlives the server.
//!
//! ```text
//! DIR/ID/data          the bytes so far
//! DIR/ID/upload.json   whose they are
//! DIR/RANDOM.new       something in the making; removed at start
//! DIR/*.partial        downloads ([`super::partial`])
//! ```
//! The bytes are hashed as they come. Whoever goes on with an upload after a restart finds its file, from which the hash is made
//! again. How far an upload is, is what its file holds; a client that broke off goes on from there.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;
use tokio::task::spawn_blocking;

use crate::digest::{Algorithm, ContentDigest, Hasher};
use crate::error::{Code, Error, Refusal, Result, refuse};
use crate::name::{RepositoryName, UploadId};

/// How much of a body is gathered for one write.
const BATCH: usize = 1 << 20;

/// An upload as others wait for it; empty once it is finished or cancelled.
type Slot = Arc<tokio::sync::Mutex<Option<Session>>>;

/// All uploads.
#[derive(Debug)]
pub(crate) struct Uploads {
    dir: PathBuf,
    open: Mutex<HashMap<UploadId, Slot>>,
}

/// One upload, for as long as somebody works on it.
#[derive(Debug)]
pub(crate) struct Session {
    dir: PathBuf,
    file: File,
    hasher: Hasher,
    size: u64,
}

/// What `upload.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    repository: String,
    algorithm: String,
}

impl Uploads {
    /// Opens the directory, and removes what was never an upload.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "new") {
                remove(&path)?;
            }
        }
        Ok(Uploads { dir, open: Mutex::default() })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn unfinished(&self) -> PathBuf {
        self.dir.join(skep_fs::atomic::random_name() + ".new")
    }

    /// Begins an upload.
    pub(crate) async fn begin(&self, repository: &RepositoryName, algorithm: Algorithm) -> Result<UploadId> {
        let id = UploadId::random();
        let record = Record { repository: repository.to_string(), algorithm: algorithm.name().to_owned() };
        let (making, dir) = (self.unfinished(), self.dir.join(id.as_str()));
        let session = spawn_blocking(move || {
            std::fs::create_dir(&making)?;
            File::create(making.join("data"))?;
            std::fs::write(making.join("upload.json"), serde_json::to_vec(&record)?)?;
            std::fs::rename(&making, &dir)?;
            Session::load(dir, algorithm)
        })
        .await?
        .map_err(Error::Upload)?;
        self.open.lock().insert(id.clone(), Arc::new(tokio::sync::Mutex::new(Some(session))));
        Ok(id)
    }

    /// Waits until nobody else works on the upload. The guard is not empty.
    pub(crate) async fn lock(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
    ) -> Result<OwnedMutexGuard<Option<Session>>> {
        let record = self.record(id).await?.filter(|record| record.repository == repository.as_str());
        let algorithm = record.and_then(|record| Algorithm::named(&record.algorithm));
        let Some(algorithm) = algorithm else { return Err(unknown(id)) };
        let slot = self.open.lock().entry(id.clone()).or_default().clone();
        let mut guard = slot.lock_owned().await;
        if guard.is_none() {
            let dir = self.dir.join(id.as_str());
            *guard = match spawn_blocking(move || Session::load(dir, algorithm)).await? {
                Ok(session) => Some(session),
                Err(error) => {
                    self.open.lock().remove(id);
                    let gone = error.kind() == io::ErrorKind::NotFound;
                    return Err(if gone { unknown(id) } else { Error::Upload(error) });
                }
            };
        }
        Ok(guard)
    }

    async fn record(&self, id: &UploadId) -> Result<Option<Record>> {
        let path = self.dir.join(id.as_str()).join("upload.json");
        spawn_blocking(move || match std::fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::Upload(error)),
        })
        .await?
    }

    /// Ends an upload; its files are gone afterwards.
    pub(crate) async fn end(&self, id: &UploadId, mut guard: OwnedMutexGuard<Option<Session>>) -> Result<()> {
        let session = guard.take();
        self.open.lock().remove(id);
        match session {
            Some(session) => spawn_blocking(move || remove(&session.dir)).await?.map_err(Error::Upload),
            None => Ok(()),
        }
    }

    /// A file with these bytes, on the disk, for the storage to take.
    pub(crate) async fn stage(&self, bytes: Bytes) -> Result<Staged> {
        let staged = Staged(self.unfinished());
        spawn_blocking(move || {
            let mut file = File::create_new(&staged.0)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            Ok(staged)
        })
        .await?
        .map_err(Error::Upload)
    }

    /// Removes uploads and downloads that nobody has written to since `before`; how many they were and what they held.
    pub(crate) async fn expire(&self, before: SystemTime) -> Result<(usize, u64)> {
        let (mut count, mut bytes) = self.expire_partials(before).await?;
        for id in self.ids().await? {
            let dir = self.dir.join(id.as_str());
            let Some(size) = stale(dir.clone(), before).await? else { continue };
            // Somebody works on it: not stale.
            let slot = self.open.lock().entry(id.clone()).or_default().clone();
            let Ok(mut guard) = slot.try_lock_owned() else { continue };
            *guard = None;
            spawn_blocking(move || remove(&dir)).await?.map_err(Error::Upload)?;
            self.open.lock().remove(&id);
            count += 1;
            bytes += size;
        }
        Ok((count, bytes))
    }

    /// All uploads there are.
    pub(crate) async fn ids(&self) -> Result<Vec<UploadId>> {
        let dir = self.dir.clone();
        spawn_blocking(move || {
            let entries = std::fs::read_dir(&dir)?.collect::<io::Result<Vec<_>>>()?;
            Ok(entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
        })
        .await?
        .map_err(Error::Upload)
    }
}

/// The size of an upload that was not written to since `before`.
async fn stale(dir: PathBuf, before: SystemTime) -> Result<Option<u64>> {
    spawn_blocking(move || {
        let Ok(metadata) = std::fs::metadata(dir.join("data")) else { return Some(0) };
        metadata.modified().is_ok_and(|time| time < before).then_some(metadata.len())
    })
    .await
    .map_err(Error::Broken)
}

fn unknown(id: &UploadId) -> Error {
    Refusal::new(Code::BlobUploadUnknown, "blob upload unknown to registry").with(id.as_str().into()).into()
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// A file that goes when nobody has taken it.
#[derive(Debug)]
pub(crate) struct Staged(pub(super) PathBuf);

impl Staged {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone already when the storage took it; else it is removed at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Session {
    fn load(dir: PathBuf, algorithm: Algorithm) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).open(dir.join("data"))?;
        let (hasher, size) = hash(&mut file, algorithm)?;
        Ok(Session { dir, file, hasher, size })
    }

    /// How many bytes there are.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The file with the bytes.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        for piece in pieces {
            self.file.write_all(piece)?;
            self.hasher.update(piece);
            self.size += piece.len() as u64;
        }
        Ok(())
    }

    /// Takes back what came behind `size`.
    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.file.set_len(size)?;
        let (hasher, size) = hash(&mut self.file, self.hasher.algorithm())?;
        (self.hasher, self.size) = (hasher, size);
        Ok(())
    }

    /// Makes the bytes durable and tells their digest.
    fn seal(&mut self, algorithm: Algorithm) -> io::Result<ContentDigest> {
        self.file.sync_all()?;
        if algorithm == self.hasher.algorithm() {
            return Ok(self.hasher.clone().finish());
        }
        Ok(hash(&mut self.file, algorithm)?.0.finish())
    }
}

/// Hashes a file from its beginning; it is at its end afterwards.
pub(super) fn hash(file: &mut File, algorithm: Algorithm) -> io::Result<(Hasher, u64)> {
    let (mut hasher, mut size) = (Hasher::new(algorithm), 0);
    let mut buffer = vec![0; BATCH];
    file.seek(SeekFrom::Start(0))?;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hasher, size));
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}

/// Runs blocking work on the session. When it breaks down, the slot stays empty, and the next who comes reads the file.
async fn with_session<T: Send + 'static>(
    slot: &mut Option<Session>,
    work: impl FnOnce(&mut Session) -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let Some(mut session) = slot.take() else { return Err(Error::Upload(io::ErrorKind::NotFound.into())) };
    let (session, result) = spawn_blocking(move || {
        let result = work(&mut session);
        (session, result)
    })
    .await?;
    // After a failed write the file may hold more or less than was counted.
    *slot = result.is_ok().then_some(session);
    result.map_err(Error::Upload)
}

/// Appends a body to an upload; `expected` is its length if the client said it. What came of a body that broke off stays.
pub(crate) async fn append<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    slot: &mut Option<Session>,
    body: impl Stream<Item = Result<Bytes, E>> + Send,
    expected: Option<u64>,
) -> Result<u64> {
    let start = slot.as_ref().map_or(0, Session::size);
    let mut body = std::pin::pin!(body);
    let (mut broken, mut taken) = (None, 0);
    loop {
        let (mut batch, mut gathered) = (Vec::new(), 0);
        while gathered < BATCH && broken.is_none() {
            match body.next().await {
                None => break,
                Some(Ok(piece)) => {
                    gathered += piece.len();
                    batch.push(piece);
                }
                Some(Err(error)) => broken = Some(error.into()),
            }
        }
        if gathered > 0 {
            with_session(slot, move |session| session.write(&batch)).await?;
        }
        let more = gathered >= BATCH;
        taken += gathered as u64;
        if !more || expected.is_some_and(|expected| taken > expected) {
            break;
        }
    }
    if let Some(error) = broken {
        return Err(Error::Body(error));
    }
    let end = slot.as_ref().map_or(start, Session::size);
    match expected {
        Some(expected) if end - start != expected => {
            with_session(slot, move |session| session.truncate(start)).await?;
            refuse(Code::SizeInvalid, format!("the body has {} bytes, not {expected}", end - start))
        }
        _ => Ok(end),
    }
}

/// Makes an upload's bytes durable; the digest they have.
pub(crate) async fn seal(slot: &mut Option<Session>, algorithm: Algorithm) -> Result<ContentDigest> {
    with_session(slot, move |session| session.seal(algorithm)).await
}

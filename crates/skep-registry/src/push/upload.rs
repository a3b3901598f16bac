//! The upload of a blob whose digest is known only when all of it was made.
//!
//! ```text
//! POST ──► PATCH, all of it in one request ──────────────────────────► PUT ?digest
//!             │ broken                                                   ▲
//!             └─► GET: how far is it? ──► PATCH, PATCH … in chunks ──────┤   a chunk is kept until the registry has it
//!                     └─ it has forgotten ──► POST, from the beginning ──┘
//! ```
//! Registries differ in what they keep of a request that broke, and some in what chunks they take; every registry takes the one
//! request that Docker sends. So chunks are for connections that broke once. What was sent is not kept: the source gives the same
//! bytes again.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Body, Method, Response, StatusCode};
use skep_types::Digest;
use url::Url;

use super::{UploadSession, location};
use crate::error::Phase;
use crate::repository::{Call, backoff, refusal};
use crate::transport::{failed, silent};
use crate::{RegistryError, Repository, Result};

/// Bytes of a chunk.
const CHUNK: usize = 8 << 20;
/// So many bytes without a failure clear the count of attempts.
const PROGRESS: u64 = 1 << 20;

/// Bytes to upload.
pub type BlobStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Where a blob's bytes come from. They can be had from the beginning as often as needed, and are the same each time.
pub trait BlobSource: Send + Sync {
    /// All bytes.
    fn open(&self) -> BlobStream;
}

/// What becomes of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadEvent {
    /// The connection broke; it is tried again after so long.
    Retrying(Duration),
}

/// A blob that the registry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploaded {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

/// The bytes of a source, hashed as they pass.
struct Passing {
    stream: Mutex<BlobStream>,
    tally: Mutex<(Context, u64)>,
    /// The source failed, which is not the registry's fault.
    source_error: Mutex<Option<io::Error>>,
    /// Bytes taken, for watching whether anything moves.
    taken: AtomicU64,
    ended: AtomicBool,
}

impl Passing {
    fn open(source: &dyn BlobSource) -> Arc<Self> {
        Arc::new(Passing {
            stream: Mutex::new(source.open()),
            tally: Mutex::new((Context::new(&SHA256), 0)),
            source_error: Mutex::default(),
            taken: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        })
    }

    async fn next(&self) -> io::Result<Option<Bytes>> {
        let piece = std::future::poll_fn(|context| self.stream.lock().poll_next_unpin(context)).await;
        match piece {
            Some(Ok(bytes)) => {
                let mut tally = self.tally.lock();
                tally.0.update(&bytes);
                tally.1 += bytes.len() as u64;
                self.taken.store(tally.1, Ordering::Relaxed);
                Ok(Some(bytes))
            }
            Some(Err(error)) => {
                let text = error.to_string();
                *self.source_error.lock() = Some(error);
                Err(io::Error::other(text))
            }
            None => {
                self.ended.store(true, Ordering::Relaxed);
                Ok(None)
            }
        }
    }

    /// The rest as the body of a request.
    fn body(self: &Arc<Self>) -> Body {
        let stream = futures_util::stream::unfold(Arc::clone(self), |passing| async move {
            passing.next().await.transpose().map(|piece| (piece, passing))
        });
        Body::wrap_stream(stream)
    }

    /// Digest and length of all, once the end was reached.
    fn outcome(&self) -> Option<Uploaded> {
        if !self.ended.load(Ordering::Relaxed) {
            return None;
        }
        let tally = self.tally.lock();
        let mut digest = [0; 32];
        digest.copy_from_slice(tally.0.clone().finish().as_ref());
        Some(Uploaded { digest: Digest::from_bytes(digest), size: tally.1 })
    }
}

/// An upload under way.
struct Upload<'a> {
    repository: &'a Repository,
    source: &'a dyn BlobSource,
    location: Option<Url>,
    passing: Arc<Passing>,
    /// Bytes that the registry has said to have.
    stored: u64,
    /// Bytes taken from the source that it may not have.
    pending: Bytes,
    /// A request broke: from now on in chunks.
    chunked: bool,
}

impl Repository {
    /// Uploads what `source` gives. `session` is one that was begun already, by a mount that was refused.
    pub async fn upload(
        &self,
        source: &dyn BlobSource,
        session: Option<UploadSession>,
        mut tell: impl FnMut(UploadEvent) + Send,
    ) -> Result<Uploaded> {
        let mut upload = Upload {
            repository: self,
            source,
            location: session.map(|session| session.location),
            passing: Passing::open(source),
            stored: 0,
            pending: Bytes::new(),
            chunked: false,
        };
        let (mut attempt, mut failed_at) = (0, 0);
        loop {
            let error = match upload.run().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if let Some(error) = upload.passing.source_error.lock().take() {
                return Err(RegistryError::Source(error));
            }
            if upload.stored >= failed_at + PROGRESS {
                attempt = 0;
            }
            (attempt, failed_at) = (attempt + 1, upload.stored);
            if attempt >= self.inner.attempts || !may_go_on(&error) {
                return Err(error);
            }
            let wait = backoff(attempt - 1);
            tracing::debug!(%error, ?wait, stored = upload.stored, "an upload broke off");
            tell(UploadEvent::Retrying(wait));
            tokio::time::sleep(wait).await;
            upload.recover().await?;
        }
    }
}

impl Upload<'_> {
    async fn run(&mut self) -> Result<Uploaded> {
        if self.location.is_none() {
            self.location = Some(self.repository.begin_upload().await?.location);
        }
        if self.chunked {
            self.send_chunks().await?;
        } else {
            self.send_all().await?;
        }
        let (Some(outcome), Some(location)) = (self.passing.outcome(), self.location.clone()) else {
            return Err(self.broken("the registry answered before it had all bytes"));
        };
        match self.repository.finish_upload(location, &outcome.digest, Bytes::new()).await {
            Ok(()) => Ok(outcome),
            // The answer may have got lost after all was done.
            Err(error) => match self.repository.blob_size(&outcome.digest).await {
                Ok(Some(size)) if size == outcome.size => Ok(outcome),
                _ => Err(error),
            },
        }
    }

    /// One request with all that the source gives.
    async fn send_all(&mut self) -> Result<()> {
        let Some(url) = self.location.clone() else { return Ok(()) };
        let inner = &self.repository.inner;
        let authorization = inner.authorization(&url, None).await?;
        let mut request = inner.endpoint.client.patch(url.clone());
        if let Some(value) = &authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let request = request.header(CONTENT_TYPE, "application/octet-stream").body(self.passing.body());
        let response = match self.watched(&url, request.send()).await? {
            Ok(response) => response,
            Err(error) => return Err(failed("Patch", &url, error).await),
        };
        if response.status() == StatusCode::UNAUTHORIZED
            && inner.auth.refused(authorization.as_ref(), None, response.headers(), &url).await?
        {
            return Err(self.broken("the token expired"));
        }
        self.accept(&url, response, None).await
    }

    /// Waits for an answer as long as bytes go out.
    async fn watched<T>(&self, url: &Url, request: impl Future<Output = T>) -> Result<T> {
        let mut request = std::pin::pin!(request);
        let mut before = self.passing.taken.load(Ordering::Relaxed);
        loop {
            match tokio::time::timeout(self.repository.inner.stall, &mut request).await {
                Ok(result) => return Ok(result),
                Err(_) => {
                    let now = self.passing.taken.load(Ordering::Relaxed);
                    if now == before {
                        return Err(silent("Patch", url));
                    }
                    before = now;
                }
            }
        }
    }

    async fn send_chunks(&mut self) -> Result<()> {
        loop {
            let mut chunk = BytesMut::from(std::mem::take(&mut self.pending));
            while chunk.len() < CHUNK {
                match self.passing.next().await {
                    Ok(Some(bytes)) => chunk.extend_from_slice(&bytes),
                    Ok(None) => break,
                    Err(error) => return Err(self.broken(&error.to_string())),
                }
            }
            self.pending = chunk.freeze();
            let Some(url) = self.location.clone().filter(|_| !self.pending.is_empty()) else { return Ok(()) };
            let last = self.stored + self.pending.len() as u64 - 1;
            let call = Call { body: self.pending.clone(), ..Call::new(Method::PATCH, &url) }
                .header(CONTENT_TYPE, "application/octet-stream")?
                .header(CONTENT_RANGE, format!("{}-{last}", self.stored))?;
            let response = self.repository.inner.send(&call).await?;
            self.accept(&url, response, Some(last + 1)).await?;
            self.pending = Bytes::new();
        }
    }

    /// Takes in the answer to a PATCH after which the registry should have `expected` bytes, or all.
    async fn accept(&mut self, asked: &Url, response: Response, expected: Option<u64>) -> Result<()> {
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let expected = expected.or_else(|| self.passing.outcome().map(|all| all.size)).unwrap_or(0);
        let stored = range_end(&response).unwrap_or(expected);
        self.location = Some(location(&self.repository.inner, asked, &response)?);
        // A blob without bytes is told as "0-0", as one byte is.
        if stored != expected && expected > 1 {
            self.stored = stored;
            return Err(self.broken(&format!("the registry has {stored} of {expected} bytes")));
        }
        self.stored = expected;
        Ok(())
    }

    /// After a failure: finds out what the registry has, and goes there in the source.
    async fn recover(&mut self) -> Result<()> {
        self.chunked = true;
        let stored = match &self.location {
            Some(url) => self.ask(url).await,
            None => None,
        };
        let Some((url, stored)) = stored else {
            self.location = None;
            return self.restart(0).await;
        };
        self.location = Some(url);
        let taken = self.passing.taken.load(Ordering::Relaxed);
        let kept_from = taken - self.pending.len() as u64;
        if stored < kept_from || stored > taken {
            return self.restart(stored).await;
        }
        self.pending = self.pending.slice(usize::try_from(stored - kept_from).unwrap_or(0)..);
        self.stored = stored;
        Ok(())
    }

    /// Asks how far the upload is; nothing if the registry has forgotten it.
    async fn ask(&self, url: &Url) -> Option<(Url, u64)> {
        let response = self.repository.inner.send_patiently(&Call::new(Method::GET, url)).await.ok()?;
        let stored = range_end(&response)?;
        // One byte and none look the same; then the beginning is sent again to a new place.
        let next = location(&self.repository.inner, url, &response).ok()?;
        (stored > 1).then_some((next, stored))
    }

    /// Begins anew in the source, after the bytes that the registry has.
    async fn restart(&mut self, stored: u64) -> Result<()> {
        self.passing = Passing::open(self.source);
        self.pending = Bytes::new();
        self.stored = stored;
        let mut skipped = 0;
        while skipped < stored {
            let Ok(Some(mut bytes)) = self.passing.next().await else {
                return Err(self.broken("the registry has more bytes than there are"));
            };
            let known = usize::try_from(stored - skipped).map_or(bytes.len(), |left| left.min(bytes.len()));
            let _ = bytes.split_to(known);
            skipped += known as u64;
            self.pending = bytes;
        }
        Ok(())
    }

    fn broken(&self, reason: &str) -> RegistryError {
        let url = self.location.as_ref().map(Url::to_string).unwrap_or_default();
        RegistryError::Transport { method: "Patch", url, phase: Phase::Exchange, reason: reason.to_owned() }
    }
}

/// `Range: 0-99` says that a hundred bytes are there.
fn range_end(response: &Response) -> Option<u64> {
    let text = response.headers().get(RANGE)?.to_str().ok()?;
    let (_, last) = text.trim().trim_start_matches("bytes=").split_once('-')?;
    last.parse::<u64>().ok().map(|last| last + 1)
}

/// Whether to go on after this failure: a broken connection, a registry that stumbles or has lost the upload.
fn may_go_on(error: &RegistryError) -> bool {
    match error {
        RegistryError::Api(e) => {
            error.is_transient()
                || matches!(e.code.as_str(), "BLOB_UPLOAD_UNKNOWN" | "BLOB_UPLOAD_INVALID" | "RANGE_INVALID")
        }
        RegistryError::Unreadable { status, .. } => matches!(status, 404 | 408 | 416 | 429),
        error => error.is_transient(),
    }
}

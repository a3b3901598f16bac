//! A blob as a stream: checked for size and digest while it passes, resumed where it broke off.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use skep_types::Digest;

use crate::error::Phase;
use crate::repository::{Repository, backoff};
use crate::transport::broken_body;
use crate::{RegistryError, Result};

/// So many bytes without a failure clear the count of attempts.
const PROGRESS: u64 = 1 << 20;

/// A blob that is being downloaded. Its end is only reported when size and digest are right: whoever sees `None` has the
/// blob, whoever sees an error has to forget what came before.
#[derive(Debug)]
pub struct Blob {
    repository: Repository,
    digest: Digest,
    size: u64,
    offset: u64,
    /// Bytes that the server sends although they are here already.
    skip: u64,
    state: State,
    response: Option<Response>,
    attempt: u32,
    attempts: u32,
    /// `offset` at the last failure.
    failed_at: u64,
    wait: Option<Duration>,
}

/// What a blob's stream gives.
#[derive(Debug)]
pub enum BlobPart {
    /// The next bytes.
    Data(Bytes),
    /// The connection broke; the next call waits so long and resumes.
    Retrying(Duration),
}

/// How far a stream is.
enum State {
    /// Bytes come; this is their hash.
    Streaming(Context),
    /// All came, and they are the right ones.
    Complete,
    /// It failed for good.
    Failed,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Streaming(_) => "Streaming",
            State::Complete => "Complete",
            State::Failed => "Failed",
        })
    }
}

/// The digest of bytes in memory.
pub fn digest_of(bytes: &[u8]) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    finished(context)
}

fn finished(context: Context) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Digest::from_bytes(bytes)
}

impl Blob {
    pub(crate) fn new(repository: Repository, digest: Digest, size: u64, attempts: u32) -> Self {
        Blob {
            repository,
            digest,
            size,
            offset: 0,
            skip: 0,
            state: State::Streaming(Context::new(&SHA256)),
            response: None,
            attempt: 0,
            attempts,
            failed_at: 0,
            wait: None,
        }
    }

    /// The size that its descriptor gives.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes, `None` at a good end.
    ///
    /// Cancel-safe: a dropped future loses no bytes.
    pub async fn next(&mut self) -> Result<Option<BlobPart>> {
        match self.state {
            State::Complete => return Ok(None),
            State::Failed => return Err(self.wrong_digest()),
            State::Streaming(_) => {}
        }
        let result = self.step().await;
        if result.is_err() {
            self.state = State::Failed;
            self.response = None;
        }
        result
    }

    async fn step(&mut self) -> Result<Option<BlobPart>> {
        if let Some(wait) = self.wait {
            tokio::time::sleep(wait).await;
            self.wait = None;
        }
        loop {
            let Some(response) = &mut self.response else {
                match self.open().await {
                    Ok(()) => continue,
                    Err(e) => return self.failed(e).map(Some),
                }
            };
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    if let Some(data) = self.accept(chunk)? {
                        return Ok(Some(BlobPart::Data(data)));
                    }
                }
                Ok(None) if self.offset == self.size => return self.finish().map(|()| None),
                Ok(None) => {
                    let url = response.url().to_string();
                    let cut = RegistryError::Transport {
                        method: "Get",
                        url,
                        phase: Phase::Exchange,
                        reason: "unexpected EOF".to_owned(),
                    };
                    return self.failed(cut).map(Some);
                }
                Err(e) => {
                    let broken = broken_body("Get", response.url(), &e);
                    return self.failed(broken).map(Some);
                }
            }
        }
    }

    async fn open(&mut self) -> Result<()> {
        let response = self.repository.open_blob(&self.digest, self.offset).await?;
        let rest = self.size - self.offset;
        let (skip, announced) = match response.status() {
            StatusCode::PARTIAL_CONTENT if self.offset > 0 => {
                if range_start(&response) != Some(self.offset) {
                    return Err(RegistryError::Status(
                        "206 Partial Content with another range than was asked for".into(),
                    ));
                }
                (0, rest)
            }
            _ => (self.offset, self.size),
        };
        if let Some(length) = response.content_length().filter(|length| *length != announced) {
            return Err(self.wrong_size(self.size - announced + length));
        }
        self.skip = skip;
        self.response = Some(response);
        Ok(())
    }

    /// Takes in a chunk; gives what of it is new.
    fn accept(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>> {
        let known = usize::try_from(self.skip).map_or(chunk.len(), |skip| skip.min(chunk.len()));
        let _ = chunk.split_to(known);
        self.skip -= known as u64;
        if chunk.is_empty() {
            return Ok(None);
        }
        let end = self.offset + chunk.len() as u64;
        if end > self.size {
            return Err(self.wrong_size(end));
        }
        self.offset = end;
        if let State::Streaming(context) = &mut self.state {
            context.update(&chunk);
        }
        Ok(Some(chunk))
    }

    fn finish(&mut self) -> Result<()> {
        self.response = None;
        let State::Streaming(context) = std::mem::replace(&mut self.state, State::Complete) else { return Ok(()) };
        if finished(context) == self.digest { Ok(()) } else { Err(self.wrong_digest()) }
    }

    fn wrong_digest(&self) -> RegistryError {
        RegistryError::Digest { what: "filesystem layer", expected: self.digest }
    }

    fn wrong_size(&self, actual: u64) -> RegistryError {
        RegistryError::Size { what: "blob", digest: self.digest, expected: self.size, actual }
    }

    /// A failure: says when to go on, or fails for good.
    fn failed(&mut self, error: RegistryError) -> Result<BlobPart> {
        self.response = None;
        if self.offset - self.failed_at >= PROGRESS {
            self.attempt = 0;
        }
        self.failed_at = self.offset;
        self.attempt += 1;
        if self.attempt >= self.attempts || !error.is_transient() {
            return Err(error);
        }
        let wait = backoff(self.attempt - 1);
        tracing::debug!(digest = %self.digest, offset = self.offset, %error, ?wait, "download broke off");
        self.wait = Some(wait);
        Ok(BlobPart::Retrying(wait))
    }
}

fn range_start(response: &Response) -> Option<u64> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

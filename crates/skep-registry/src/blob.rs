//! A blob as a stream: checked for size and digest while it passes, resumed where it broke off.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use skep_types::Digest;

use crate::error::Phase;
use crate::manifest::Descriptor;
use crate::repository::{Repository, backoff};
use crate::sources::Wanted;
use crate::transport::broken_body;
use crate::{RegistryError, Result};

/// So many bytes without a failure clear the count of attempts.
const PROGRESS: u64 = 1 << 20;
/// A registry that wants to be left alone for longer is not waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Waits are told in steps of this.
const TICK: Duration = Duration::from_secs(1);

/// A blob that is being downloaded. Its end is only reported when size and digest are right: whoever sees `None` has the
/// blob, whoever sees an error has to forget what came before. (Not so for one that [starts later](Repository::blob_from).)
///
/// A connection that breaks is made anew and goes on where it was; when a mirror fails, the next host goes on there.
#[derive(Debug)]
pub struct Blob {
    repository: Repository,
    digest: Digest,
    size: u64,
    offset: u64,
    /// Bytes that the server sends although they are here already.
    skip: u64,
    /// The host that is asked.
    source: usize,
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
    /// The connection broke, and so long is waited until it is made anew. Told again as the time passes.
    Retrying(Duration),
}

/// How far a stream is.
enum State {
    /// Bytes come; this is their hash, if they are all of the blob.
    Streaming(Option<Context>),
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
    pub(crate) fn new(repository: Repository, descriptor: &Descriptor, attempts: u32) -> Self {
        let source = repository.sources.next(0, Wanted::Content).unwrap_or(0);
        Blob {
            repository,
            digest: descriptor.digest,
            size: descriptor.size,
            offset: 0,
            skip: 0,
            source,
            state: State::Streaming(Some(Context::new(&SHA256))),
            response: None,
            attempt: 0,
            attempts,
            failed_at: 0,
            wait: None,
        }
    }

    pub(crate) fn starting_at(self, offset: u64) -> Self {
        let offset = offset.min(self.size);
        Blob { offset, failed_at: offset, state: State::Streaming(None), ..self }
    }

    /// All bytes, which have to be few.
    pub(crate) async fn read_all(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(part) = self.next().await? {
            if let BlobPart::Data(data) = part {
                bytes.extend_from_slice(&data);
            }
        }
        Ok(bytes)
    }

    /// The bytes were wrong: asks the host that gave the last of them no more. Returns whether there is another to ask.
    pub fn distrust(&self) -> bool {
        let sources = &self.repository.sources;
        if sources.next(self.source + 1, Wanted::Content).is_none() {
            return false;
        }
        tracing::warn!(digest = %self.digest, "a mirror gave wrong bytes; it is not asked any more");
        sources.give_up(self.source);
        true
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
            tokio::time::sleep(wait.min(TICK)).await;
            self.wait = wait.checked_sub(TICK).filter(|rest| !rest.is_zero());
            if let Some(rest) = self.wait {
                return Ok(Some(BlobPart::Retrying(rest)));
            }
        }
        loop {
            if self.response.is_none() && self.offset == self.size && self.size > 0 {
                return self.finish().map(|()| None);
            }
            let Some(response) = &mut self.response else {
                match self.open().await {
                    Ok(()) => continue,
                    Err(e) => match self.failed(e)? {
                        Some(part) => return Ok(Some(part)),
                        None => continue,
                    },
                }
            };
            let error = match response.chunk().await {
                Ok(Some(chunk)) => match self.accept(chunk) {
                    Ok(Some(data)) => return Ok(Some(BlobPart::Data(data))),
                    Ok(None) => continue,
                    Err(error) => error,
                },
                Ok(None) if self.offset == self.size => return self.finish().map(|()| None),
                Ok(None) => RegistryError::Transport {
                    method: "Get",
                    url: response.url().to_string(),
                    phase: Phase::Exchange,
                    reason: "unexpected EOF".to_owned(),
                },
                Err(e) => broken_body("Get", response.url(), &e),
            };
            if let Some(part) = self.failed(error)? {
                return Ok(Some(part));
            }
        }
    }

    async fn open(&mut self) -> Result<()> {
        let host = self.repository.sources.connection(self.source).await?;
        let response = host.open_blob(&self.digest, self.offset).await?;
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
        if let State::Streaming(Some(context)) = &mut self.state {
            context.update(&chunk);
        }
        Ok(Some(chunk))
    }

    fn finish(&mut self) -> Result<()> {
        self.response = None;
        let State::Streaming(Some(context)) = std::mem::replace(&mut self.state, State::Complete) else {
            return Ok(());
        };
        if finished(context) == self.digest { Ok(()) } else { Err(self.wrong_digest()) }
    }

    fn wrong_digest(&self) -> RegistryError {
        RegistryError::Digest { what: "filesystem layer", expected: self.digest }
    }

    fn wrong_size(&self, actual: u64) -> RegistryError {
        RegistryError::Size { what: "blob", digest: self.digest, expected: self.size, actual }
    }

    /// A failure: says when to go on (`None` is at once, with another host), or fails for good.
    fn failed(&mut self, error: RegistryError) -> Result<Option<BlobPart>> {
        self.response = None;
        let advanced = self.offset - self.failed_at >= PROGRESS;
        self.failed_at = self.offset;
        let sources = &self.repository.sources;
        let next = sources.next(self.source + 1, Wanted::Content);
        if let Some(next) = next.filter(|_| !(advanced && error.is_transient())) {
            sources.failed(self.source, error);
            (self.source, self.attempt) = (next, 0);
            return Ok(None);
        }
        self.attempt = if advanced { 1 } else { self.attempt + 1 };
        let pause = sources.pause(self.source);
        if self.attempt >= self.attempts || !error.is_transient() || pause > LONGEST_PAUSE {
            return Err(error);
        }
        let wait = backoff(self.attempt - 1).max(pause);
        tracing::debug!(digest = %self.digest, offset = self.offset, %error, ?wait, "download broke off");
        self.wait = Some(wait);
        Ok(Some(BlobPart::Retrying(wait)))
    }
}

fn range_start(response: &Response) -> Option<u64> {
    let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

//! Blobs: `/v2/NAME/blobs/DIGEST`.

use futures_util::StreamExt;
use http::StatusCode;
use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_NONE_MATCH, IF_RANGE, RANGE};

use crate::cache::Joined;
use crate::digest::ContentDigest;
use crate::error::{Code, Error, Refusal, Result};
use crate::http::Request;
use crate::http::answer::Answer;
use crate::http::range::{Wanted, wanted};
use crate::http::server::Shared;
use crate::name::RepositoryName;

/// Content of a digest never changes. Only the asking client may keep it: another might not be allowed to see it.
const FOR_EVER: &str = "private, max-age=31536000, immutable";

/// What blobs are served as; what they are is said by manifests.
const BYTES: &str = "application/octet-stream";

/// `GET` and `HEAD`.
pub(crate) async fn get(
    shared: &Shared,
    name: &RepositoryName,
    digest: &ContentDigest,
    request: &Request,
) -> Result<Answer> {
    let size = match shared.content.blob(name, digest).await {
        Ok(size) => size,
        Err(Error::Refused(refusal)) if refusal.code == Code::BlobUnknown => {
            match fetched(shared, name, digest, request).await? {
                Fetched::Answer(answer) => return Ok(answer),
                Fetched::Stored(size) => size,
                Fetched::Nowhere => return Err(refusal.into()),
            }
        }
        Err(error) => return Err(error),
    };
    if unchanged(request, digest) {
        return Ok(labelled(Answer::empty(StatusCode::NOT_MODIFIED), digest));
    }
    let range = match if_range(request, digest) {
        true => wanted(request.header(RANGE), size),
        false => Wanted::Everything,
    };
    let (status, part) = match range {
        Wanted::Everything => (StatusCode::OK, 0..size),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Unsatisfiable => {
            let answer = Answer::empty(StatusCode::RANGE_NOT_SATISFIABLE);
            return Ok(labelled(answer, digest).header(CONTENT_RANGE, &format!("bytes */{size}")));
        }
    };
    let length = part.end - part.start;
    let mut answer = if request.head_only() {
        Answer::bytes(status, BYTES, "").header(CONTENT_LENGTH, &length.to_string())
    } else {
        let content = shared.content.storage.read(digest, part.clone()).await?;
        // The head is out when this fails: the log is the only place to say so.
        let sent = shared.metrics.sent.clone();
        let content = content.inspect(move |piece| match piece {
            Ok(piece) => drop(sent.inc_by(piece.len() as u64)),
            Err(error) => tracing::error!(%error, "a download broke off"),
        });
        Answer::stream(status, BYTES, length, content)
    };
    if status == StatusCode::PARTIAL_CONTENT {
        answer = answer.header(CONTENT_RANGE, &format!("bytes {}-{}/{size}", part.start, part.end - 1));
    }
    Ok(labelled(answer, digest))
}

/// What became of a blob that is not here.
enum Fetched {
    /// It is on its way, and this is the answer.
    Answer(Answer),
    /// It is here now, and so large.
    Stored(u64),
    /// The repository is no copy of anything.
    Nowhere,
}

/// Fetches a blob of a copied repository, and passes it on as it comes if all of it is wanted.
async fn fetched(shared: &Shared, name: &RepositoryName, digest: &ContentDigest, request: &Request) -> Result<Fetched> {
    let copied = shared.cache.as_ref().and_then(|cache| Some((cache, cache.source(name)?)));
    let Some((cache, source)) = copied else { return Ok(Fetched::Nowhere) };
    if request.head_only() {
        // Whoever only looks causes no download.
        return Ok(match shared.content.descriptor(name, digest).await? {
            Some(known) => {
                let answer = Answer::bytes(StatusCode::OK, BYTES, "");
                Fetched::Answer(labelled(answer.header(CONTENT_LENGTH, &known.size.to_string()), digest))
            }
            None => Fetched::Nowhere,
        });
    }
    let flight = cache.blob(&shared.content, &shared.tasks, source, digest).await?;
    let gone = |error: std::io::Error| Refusal::new(Code::Unavailable, error.to_string());
    if !request.header(RANGE).is_empty() {
        flight.landed().await.map_err(gone)?;
        return shared.content.blob(name, digest).await.map(Fetched::Stored);
    }
    match flight.join().await.map_err(gone)? {
        Joined::Landed => shared.content.blob(name, digest).await.map(Fetched::Stored),
        Joined::Reading(file) => {
            let answer = Answer::stream(StatusCode::OK, BYTES, flight.size(), flight.stream(file));
            Ok(Fetched::Answer(labelled(answer, digest)))
        }
    }
}

/// `DELETE`.
pub(crate) async fn delete(shared: &Shared, name: &RepositoryName, digest: &ContentDigest) -> Result<Answer> {
    shared.content.remove_blob(name, digest).await?;
    Ok(Answer::empty(StatusCode::ACCEPTED))
}

fn labelled(answer: Answer, digest: &ContentDigest) -> Answer {
    answer
        .digest(digest)
        .header(ETAG, &format!("\"{digest}\""))
        .header(ACCEPT_RANGES, "bytes")
        .header(CACHE_CONTROL, FOR_EVER)
}

/// The client has this content already (`If-None-Match`).
pub(crate) fn unchanged(request: &Request, digest: &ContentDigest) -> bool {
    let own = digest.to_string();
    let tags =
        request.header(IF_NONE_MATCH).split(',').map(|tag| tag.trim().trim_start_matches("W/").trim_matches('"'));
    tags.into_iter().any(|tag| tag == "*" || tag == own)
}

/// `Range` counts only for the content that the client began with (`If-Range`).
fn if_range(request: &Request, digest: &ContentDigest) -> bool {
    let tag = request.header(IF_RANGE).trim();
    tag.is_empty() || tag.trim_matches('"') == digest.to_string()
}

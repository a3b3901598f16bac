//! Uploads: `/v2/NAME/blobs/uploads/`.

use http::StatusCode;
use http::header::{CONTENT_RANGE, HeaderName, LOCATION, RANGE};

use crate::auth::{Action, Caller};
use crate::content::Mount;
use crate::content::uploads::{Session, append};
use crate::digest::{Algorithm, ContentDigest};
use crate::error::{Code, Error, Refusal, Result, refuse};
use crate::http::Request;
use crate::http::answer::Answer;
use crate::http::range::chunk;
use crate::http::server::Shared;
use crate::name::{RepositoryName, UploadId};

/// Among how many repositories a blob is looked for when a mount does not say from where.
const MOUNT_CANDIDATES: usize = 64;

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// `POST`: mounts, takes a blob at once, or begins an upload.
pub(crate) async fn begin(shared: &Shared, name: &RepositoryName, request: Request) -> Result<Answer> {
    if let Some(digest) = request.query.get("mount") {
        let digest = parse(digest)?;
        if mount(shared, &request.caller, name, &digest, request.query.get("from")).await? == Mount::Done {
            return Ok(created(name, &digest));
        }
    }
    let whole = match request.query.get("digest") {
        Some(digest) => Some(parse(digest)?),
        None => None,
    };
    let algorithm = match (&whole, request.query.get("digest-algorithm")) {
        (Some(digest), _) => digest.algorithm(),
        (None, None) => Algorithm::Sha256,
        (None, Some(named)) => match Algorithm::named(named) {
            Some(algorithm) => algorithm,
            None => return refuse(Code::DigestInvalid, "unsupported digest algorithm"),
        },
    };
    let id = shared.content.uploads.begin(name, algorithm).await?;
    let Some(digest) = whole else { return Ok(progress(StatusCode::ACCEPTED, name, &id, 0)) };
    let mut upload = shared.content.uploads.lock(name, &id).await?;
    let expected = request.content_length();
    if let Err(error) = append(&mut upload, request.body.stream(), expected).await {
        // Nobody knows the upload's name to go on with it.
        shared.content.uploads.end(&id, upload).await?;
        return Err(error);
    }
    let size = shared.content.finish_upload(name, &id, upload, &digest).await?;
    shared.metrics.received.inc_by(size);
    Ok(created(name, &digest))
}

/// `GET`: how far it is.
pub(crate) async fn status(shared: &Shared, name: &RepositoryName, id: &UploadId) -> Result<Answer> {
    let upload = shared.content.uploads.lock(name, id).await?;
    let size = upload.as_ref().map_or(0, Session::size);
    Ok(progress(StatusCode::NO_CONTENT, name, id, size))
}

/// `PATCH`: takes a chunk, or whatever comes.
pub(crate) async fn patch(shared: &Shared, name: &RepositoryName, id: &UploadId, request: Request) -> Result<Answer> {
    let mut upload = shared.content.uploads.lock(name, id).await?;
    match take(shared, &mut upload, request).await {
        Ok(size) => Ok(progress(StatusCode::ACCEPTED, name, id, size)),
        Err(Error::Refused(refusal)) if refusal.code == Code::RangeInvalid => {
            let size = upload.as_ref().map_or(0, Session::size);
            Ok(out_of_order(refusal, name, id, size))
        }
        Err(error) => Err(error),
    }
}

/// `PUT`: takes the last chunk, if there is one, and makes a blob of it all.
pub(crate) async fn finish(shared: &Shared, name: &RepositoryName, id: &UploadId, request: Request) -> Result<Answer> {
    let Some(digest) = request.query.get("digest") else { return refuse(Code::DigestInvalid, "the digest is missing") };
    let digest = parse(digest)?;
    let mut upload = shared.content.uploads.lock(name, id).await?;
    match take(shared, &mut upload, request).await {
        Ok(_) => {}
        Err(Error::Refused(refusal)) if refusal.code == Code::RangeInvalid => {
            let size = upload.as_ref().map_or(0, Session::size);
            return Ok(out_of_order(refusal, name, id, size));
        }
        Err(error) => return Err(error),
    }
    shared.content.finish_upload(name, id, upload, &digest).await?;
    Ok(created(name, &digest))
}

/// `DELETE`.
pub(crate) async fn cancel(shared: &Shared, name: &RepositoryName, id: &UploadId) -> Result<Answer> {
    let upload = shared.content.uploads.lock(name, id).await?;
    shared.content.uploads.end(id, upload).await?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// Appends a request's body; how large the upload is then.
async fn take(shared: &Shared, upload: &mut Option<Session>, request: Request) -> Result<u64> {
    let have = upload.as_ref().map_or(0, Session::size);
    let length = request.content_length();
    let header = request.header(CONTENT_RANGE);
    let expected = if header.is_empty() {
        length
    } else {
        let Some(part) = chunk(header) else { return refuse(Code::RangeInvalid, "the Content-Range can't be read") };
        if part.start != have {
            return refuse(
                Code::RangeInvalid,
                format!("the chunk begins at {}, but the upload is at {have}", part.start),
            );
        }
        let size = part.end - part.start;
        if length.is_some_and(|length| length != size) {
            return refuse(Code::SizeInvalid, "the Content-Length is not that of the Content-Range");
        }
        Some(size)
    };
    let size = append(upload, request.body.stream(), expected).await?;
    shared.metrics.received.inc_by(size - have);
    Ok(size)
}

async fn mount(
    shared: &Shared,
    caller: &Caller,
    to: &RepositoryName,
    digest: &ContentDigest,
    from: Option<&str>,
) -> Result<Mount> {
    let candidates = match from {
        // A name that can't be is one that isn't there: the upload goes on as if nothing had been said.
        Some(from) => from.parse().into_iter().collect(),
        None => shared.content.repositories_with(digest, MOUNT_CANDIDATES).await?,
    };
    // What the caller may not read there is not there for it.
    let candidates: Vec<_> =
        candidates.into_iter().filter(|from| shared.authority.may(caller, from, Action::Pull)).collect();
    for from in candidates {
        if shared.content.mount(to, &from, digest).await? == Mount::Done {
            return Ok(Mount::Done);
        }
    }
    Ok(Mount::NotThere)
}

fn parse(digest: &str) -> Result<ContentDigest> {
    let detail = serde_json::json!({"digest": digest});
    digest.parse().map_err(|_| Refusal::new(Code::DigestInvalid, "invalid digest").with(detail).into())
}

fn created(name: &RepositoryName, digest: &ContentDigest) -> Answer {
    Answer::empty(StatusCode::CREATED).header(LOCATION, &format!("/v2/{name}/blobs/{digest}")).digest(digest)
}

/// Where an upload is and how far. The last byte's number is 0 for an empty one, too: the form knows no nothing.
fn progress(status: StatusCode, name: &RepositoryName, id: &UploadId, size: u64) -> Answer {
    on_the_way(Answer::empty(status), name, id, size)
}

fn out_of_order(refusal: Refusal, name: &RepositoryName, id: &UploadId, size: u64) -> Answer {
    on_the_way(crate::http::error::answer(&refusal.into()), name, id, size)
}

fn on_the_way(answer: Answer, name: &RepositoryName, id: &UploadId, size: u64) -> Answer {
    answer
        .header(LOCATION, &format!("/v2/{name}/blobs/uploads/{id}"))
        .header(RANGE, &format!("0-{}", size.saturating_sub(1)))
        .header(UPLOAD_UUID, id.as_str())
}

//! Manifests: `/v2/NAME/manifests/REFERENCE`.

use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, LOCATION, WARNING};

use crate::cache::Cached;
use crate::error::{Code, Refusal, Result, refuse};
use crate::http::Request;
use crate::http::answer::Answer;
use crate::http::server::Shared;
use crate::manifest::{MAX_MANIFEST_SIZE, Manifest, ManifestError};
use crate::name::{ManifestReference, RepositoryName};
use crate::routes::blobs::unchanged;

/// Tells a client that the registry knows about subjects, so that it need not keep a list itself.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// `GET` and `HEAD`.
pub(crate) async fn get(
    shared: &Shared,
    name: &RepositoryName,
    reference: &ManifestReference,
    request: &Request,
) -> Result<Answer> {
    let copied = shared.cache.as_ref().and_then(|cache| Some((cache, cache.source(name)?)));
    let cached = match copied {
        Some((cache, source)) => cache.manifest(&shared.content, &source, reference).await?,
        None => Cached::Fresh(shared.content.manifest(name, reference).await?),
    };
    let (manifest, stale) = match cached {
        Cached::Fresh(manifest) => (manifest, false),
        Cached::Stale(manifest) => (manifest, true),
    };
    let answer = if unchanged(request, &manifest.digest) {
        Answer::empty(StatusCode::NOT_MODIFIED)
    } else if request.head_only() {
        let answer = Answer::bytes(StatusCode::OK, &manifest.media_type, "");
        answer.header(CONTENT_LENGTH, &manifest.size.to_string())
    } else {
        let bytes = shared.content.manifest_bytes(&manifest).await?;
        Answer::bytes(StatusCode::OK, &manifest.media_type, bytes)
    };
    let answer = if stale { answer.header(WARNING, "110 - \"Response is Stale\"") } else { answer };
    Ok(answer.digest(&manifest.digest).header(ETAG, &format!("\"{}\"", manifest.digest)))
}

/// `PUT`.
pub(crate) async fn put(
    shared: &Shared,
    name: &RepositoryName,
    reference: &ManifestReference,
    request: Request,
) -> Result<Answer> {
    if request.content_length().is_some_and(|length| length > MAX_MANIFEST_SIZE as u64) {
        return refuse(Code::SizeInvalid, format!("the manifest is larger than {MAX_MANIFEST_SIZE} bytes"));
    }
    let content_type = request.header(CONTENT_TYPE).to_owned();
    let bytes = request.body.read(MAX_MANIFEST_SIZE, "the manifest").await?;
    let manifest = Manifest::parse(&bytes, &content_type).map_err(|error| refused(&error))?;
    let subject = manifest.subject.as_ref().map(|subject| subject.digest.to_string());
    let digest = shared.content.put_manifest(name, reference, bytes, manifest, shared.parts).await?;
    let answer =
        Answer::empty(StatusCode::CREATED).header(LOCATION, &format!("/v2/{name}/manifests/{digest}")).digest(&digest);
    Ok(match subject {
        Some(subject) => answer.header(OCI_SUBJECT, &subject),
        None => answer,
    })
}

/// `DELETE`: of a tag only the tag goes, of a digest the manifest with all its tags.
pub(crate) async fn delete(shared: &Shared, name: &RepositoryName, reference: &ManifestReference) -> Result<Answer> {
    match reference {
        ManifestReference::Tag(tag) => shared.content.remove_tag(name, tag).await?,
        ManifestReference::Digest(digest) => shared.content.remove_manifest(name, digest).await?,
    }
    Ok(Answer::empty(StatusCode::ACCEPTED))
}

fn refused(error: &ManifestError) -> Refusal {
    Refusal::new(Code::ManifestInvalid, error.to_string())
}

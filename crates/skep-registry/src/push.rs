//! Writing to a repository: what is there, what can be mounted, uploads ([`upload`]) and manifests.
//!
//! ```text
//! for each blob:  HEAD ── 200 ──► nothing to do
//!                  └─ 404 ──► POST ?mount&from ── 201 ──► nothing to do
//!                              └─ 202 ──► PATCH … PUT ?digest     (upload)
//! then:           PUT manifests/TAG
//! ```

mod upload;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Method, Response, StatusCode};
use skep_types::{Digest, Selector};
use url::Url;

use crate::blob::digest_of;
use crate::error::Phase;
use crate::manifest::media_type;
use crate::repository::{Call, Inner};
use crate::{RegistryError, Repository, Result};

pub use upload::{BlobSource, BlobStream, UploadEvent, Uploaded};

/// What came of asking for a mount.
#[derive(Debug)]
pub enum Mount {
    /// The blob is in the repository now.
    Mounted,
    /// The registry would rather have it uploaded, and has begun an upload.
    Refused(UploadSession),
}

/// An upload that was begun: where its bytes go.
#[derive(Debug)]
pub struct UploadSession {
    pub(crate) location: Url,
}

impl Repository {
    /// The size of a blob, if the repository has it.
    pub async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let url = self.inner.url(&format!("blobs/{digest}"))?;
        let response = match self.inner.send_patiently(&Call::new(Method::HEAD, &url)).await {
            Ok(response) => response,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Not content_length(): the body of an answer to HEAD is empty.
        let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(length)
    }

    /// Whether the repository has a manifest or an index.
    pub async fn has_manifest(&self, digest: &Digest) -> Result<bool> {
        let url = self.inner.url(&format!("manifests/{digest}"))?;
        let call = Call::new(Method::HEAD, &url).header(ACCEPT, media_type::ACCEPTED.join(", "))?;
        match self.inner.send_patiently(&call).await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks for a blob that another repository of the same registry has.
    pub async fn mount(&self, digest: &Digest, from: &str) -> Result<Mount> {
        let mut url = self.inner.url("blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from);
        let scope = format!("repository:{from}:pull");
        let call = Call { scope: Some(&scope), ..Call::new(Method::POST, &url) };
        let response = self.inner.send_patiently(&call).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Mount::Mounted),
            _ => Ok(Mount::Refused(UploadSession { location: location(&self.inner, &url, &response)? })),
        }
    }

    /// Ends an upload that is not needed. It costs the registry space if it is not ended; that it can't be is no failure.
    pub async fn cancel_upload(&self, session: UploadSession) {
        if let Err(error) = self.inner.send(&Call::new(Method::DELETE, &session.location)).await {
            tracing::debug!(%error, "an upload that isn't needed stays");
        }
    }

    /// Stores a small blob, unless it is there.
    pub async fn put_small_blob(&self, bytes: Bytes) -> Result<Digest> {
        let digest = digest_of(&bytes);
        if self.blob_size(&digest).await?.is_some() {
            return Ok(digest);
        }
        let begun = self.begin_upload().await?;
        self.finish_upload(begun.location, &digest, bytes).await?;
        Ok(digest)
    }

    /// Stores a manifest or an index under a tag or its digest.
    pub async fn put_manifest(&self, selector: &Selector, media_type: &str, bytes: Bytes) -> Result<Digest> {
        let digest = digest_of(&bytes);
        let name = match selector {
            Selector::Tag(tag) => tag.clone(),
            Selector::Digest(digest) => digest.to_string(),
        };
        let url = self.inner.url(&format!("manifests/{name}"))?;
        let call = Call { body: bytes, ..Call::new(Method::PUT, &url).header(CONTENT_TYPE, media_type)? };
        self.inner.send_patiently(&call).await?;
        Ok(digest)
    }

    /// Begins an upload.
    pub(crate) async fn begin_upload(&self) -> Result<UploadSession> {
        let url = self.inner.url("blobs/uploads/")?;
        let response = self.inner.send_patiently(&Call::new(Method::POST, &url)).await?;
        Ok(UploadSession { location: location(&self.inner, &url, &response)? })
    }

    /// Sends the last bytes of an upload and says what it all is.
    pub(crate) async fn finish_upload(&self, mut location: Url, digest: &Digest, last: Bytes) -> Result<()> {
        location.query_pairs_mut().append_pair("digest", &digest.to_string());
        let call = Call { body: last, ..Call::new(Method::PUT, &location) };
        let call = call.header(CONTENT_TYPE, "application/octet-stream")?;
        self.inner.send(&call).await.map(drop)
    }
}

/// Whether the repository just doesn't have what was asked for. An answer to HEAD has no body that would say so.
fn is_missing(error: &RegistryError) -> bool {
    match error {
        RegistryError::Unreadable { status, .. } => *status == 404,
        RegistryError::Api(error) => {
            matches!(error.code.as_str(), "BLOB_UNKNOWN" | "NAME_UNKNOWN" | "MANIFEST_UNKNOWN")
        }
        _ => false,
    }
}

/// Where an upload goes on.
pub(crate) fn location(inner: &Inner, asked: &Url, response: &Response) -> Result<Url> {
    let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let joined = text.and_then(|text| asked.join(text).ok()).filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(mut location) = joined else {
        return Err(RegistryError::Transport {
            method: "Post",
            url: asked.to_string(),
            phase: Phase::Redirect,
            reason: "the registry began an upload and did not say where".to_owned(),
        });
    };
    // A registry behind a proxy that adds TLS doesn't know of it.
    let base = &inner.endpoint.base;
    if base.scheme() == "https" && location.scheme() == "http" && location.host() == base.host() {
        let port = base.port();
        if location.set_scheme("https").is_ok() && location.set_port(port).is_err() {
            tracing::debug!(%location, "an upload's address takes no port");
        }
    }
    Ok(location)
}

//! What a repository has that says something about a manifest: signatures, lists of contents, attestations (distribution spec 1.1,
//! "Listing Referrers"). A registry without that part of the API has an index under the tag `sha256-HEX` instead, which clients keep.
//! Older tools use tags that only they know: cosign's `sha256-HEX.sig`, `.att` and `.sbom`.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use skep_types::{Digest, Selector};

use crate::blob::digest_of;
use crate::manifest::{MAX_MANIFEST_SIZE, ManifestError, media_type};
use crate::repository::{Call, FetchedManifest, Inner, Repository};
use crate::sources::Wanted;
use crate::tags::next_page;
use crate::transport::read_body;
use crate::{RegistryError, Result};

/// The most referrers of a manifest that are read.
const MAX_REFERRERS: usize = 256;
/// The endings of cosign's tags.
const COSIGN_TAGS: [&str; 3] = ["sig", "att", "sbom"];
/// How a registry says that it keeps the list itself.
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// A line of the list of referrers. Nothing about it can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// Its manifest.
    pub digest: Digest,
    /// What it is said to be.
    pub artifact_type: String,
    /// The tag that led to it, if it is not in the list.
    pub tag: Option<String>,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    manifests: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    digest: Digest,
    #[serde(default)]
    artifact_type: Option<String>,
}

/// The index under the tag, as this client adds to it; what others wrote stays.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fallback {
    #[serde(default)]
    manifests: Vec<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Repository {
    /// What refers to `digest`: by the API, or by the tag that stands in for it.
    pub async fn referrers(&self, digest: &Digest) -> Result<Vec<Referrer>> {
        let entries = match self.listed_referrers(digest).await? {
            Some(entries) => entries,
            None => match self.document(&format!("manifests/{}", fallback_tag(digest))).await? {
                Some(raw) => serde_json::from_slice::<List>(&raw).map_err(ManifestError::from)?.entries(),
                None => Vec::new(),
            },
        };
        bounded(entries.len())?;
        let referrer = |entry: Entry| Referrer {
            digest: entry.digest,
            artifact_type: entry.artifact_type.unwrap_or_default(),
            tag: None,
        };
        Ok(entries.into_iter().map(referrer).collect())
    }

    /// As [`referrers`](Self::referrers), with those under cosign's tags.
    pub async fn all_referrers(&self, digest: &Digest) -> Result<Vec<Referrer>> {
        let mut found = self.referrers(digest).await?;
        for ending in COSIGN_TAGS {
            let tag = format!("{}.{ending}", fallback_tag(digest));
            if let Some(raw) = self.document(&format!("manifests/{tag}")).await? {
                let (digest, artifact_type) = (digest_of(&raw), String::new());
                found.retain(|known| known.digest != digest);
                found.push(Referrer { digest, artifact_type, tag: Some(tag) });
            }
        }
        Ok(found)
    }

    /// Fetches a referrer's manifest.
    pub async fn referrer(&self, referrer: &Referrer) -> Result<FetchedManifest> {
        self.manifest(&Selector::Digest(referrer.digest)).await
    }

    /// Stores a manifest that says something about `subject`, and puts it on the list if the registry doesn't do that itself.
    pub async fn put_referrer(&self, subject: &Digest, media_type: &str, kind: &str, bytes: Bytes) -> Result<()> {
        let digest = digest_of(&bytes);
        let size = bytes.len() as u64;
        let url = self.inner.url(&format!("manifests/{digest}"))?;
        let call = Call { body: bytes, ..Call::new(Method::PUT, &url).header(CONTENT_TYPE, media_type)? };
        let answer = self.inner.send_patiently(&call).await?;
        if answer.headers().contains_key(OCI_SUBJECT) {
            return Ok(());
        }
        // It may keep the list without saying so.
        let listed = self.listed_referrers(subject).await?;
        if listed.is_some_and(|all| all.iter().any(|entry| entry.digest == digest)) {
            return Ok(());
        }
        let tag = fallback_tag(subject);
        let old = self.document(&format!("manifests/{tag}")).await?;
        let entry = serde_json::json!({
            "mediaType": media_type, "digest": digest, "size": size, "artifactType": kind,
        });
        if let Some(index) = with_entry(old.as_deref(), &digest, entry)? {
            self.put_manifest(&Selector::Tag(tag), media_type::OCI_INDEX, index.into()).await?;
        }
        Ok(())
    }

    /// The list that the registry keeps, all pages of it; nothing if no host keeps one.
    async fn listed_referrers(&self, digest: &Digest) -> Result<Option<Vec<Entry>>> {
        let (mut last, mut from) = (Ok(None), 0);
        while let Some(number) = self.sources.next(from, Wanted::Content) {
            from = number + 1;
            let answer = match self.sources.connection(number).await {
                Ok(inner) => pages(&inner, digest).await,
                Err(error) => Err(error),
            };
            last = match answer {
                Ok(entries) => return Ok(Some(entries)),
                Err(error) if is_absence(&error) => Ok(None),
                Err(error) => Err(self.sources.failed(number, error).about(&self.inner.reference)),
            };
        }
        last
    }

    /// A small JSON document of the repository; nothing if no host has it: mirrors often lack what isn't an image.
    pub(crate) async fn document(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let (mut last, mut from) = (Ok(None), 0);
        while let Some(number) = self.sources.next(from, Wanted::Content) {
            from = number + 1;
            let answer = match self.sources.connection(number).await {
                Ok(inner) => inner.get_patiently(&inner.url(path)?, &accepted()).await,
                Err(error) => Err(error),
            };
            last = match answer {
                Ok(response) => return read_body(response, MAX_MANIFEST_SIZE, "manifest").await.map(Some),
                Err(error) if is_absence(&error) => Ok(None),
                Err(error) => Err(self.sources.failed(number, error).about(&self.inner.reference)),
            };
        }
        last
    }
}

async fn pages(inner: &Inner, digest: &Digest) -> Result<Vec<Entry>> {
    let mut next = Some(inner.url(&format!("referrers/{digest}"))?);
    let mut entries = Vec::new();
    while let Some(url) = next {
        let response = inner.get_patiently(&url, &accepted()).await?;
        next = next_page(&url, response.headers());
        let raw = read_body(response, MAX_MANIFEST_SIZE, "list of referrers").await?;
        let page = serde_json::from_slice::<List>(&raw).map_err(ManifestError::from)?.entries();
        // A page without entries that names another one could go on for ever.
        next = next.filter(|_| !page.is_empty());
        entries.extend(page);
        bounded(entries.len())?;
    }
    Ok(entries)
}

impl List {
    fn entries(self) -> Vec<Entry> {
        self.manifests.unwrap_or_default()
    }
}

/// The index with one more entry; nothing if it has that.
fn with_entry(old: Option<&[u8]>, digest: &Digest, entry: Value) -> Result<Option<Vec<u8>>> {
    let mut index: Fallback = match old {
        Some(raw) => serde_json::from_slice(raw).map_err(ManifestError::from)?,
        None => Fallback {
            manifests: Vec::new(),
            rest: Map::from_iter([
                ("schemaVersion".to_owned(), 2.into()),
                ("mediaType".to_owned(), media_type::OCI_INDEX.into()),
            ]),
        },
    };
    let text = digest.to_string();
    if index.manifests.iter().any(|known| known["digest"] == text.as_str()) {
        return Ok(None);
    }
    index.manifests.push(entry);
    Ok(Some(serde_json::to_vec(&index).map_err(ManifestError::from)?))
}

fn fallback_tag(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}

fn accepted() -> HeaderMap {
    let types = [media_type::OCI_MANIFEST, media_type::OCI_INDEX, media_type::DOCKER_MANIFEST];
    types.into_iter().map(|text| (ACCEPT, HeaderValue::from_static(text))).collect()
}

fn bounded(count: usize) -> Result<()> {
    match count {
        ..=MAX_REFERRERS => Ok(()),
        _ => Err(RegistryError::TooLarge { what: "list of referrers".to_owned(), limit: MAX_REFERRERS as u64 }),
    }
}

/// Whether an error says that there is no such thing, or no such part of the API.
fn is_absence(error: &RegistryError) -> bool {
    match error {
        RegistryError::Api(detail) => {
            matches!(detail.code.as_str(), "MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "NOT_FOUND" | "UNSUPPORTED")
        }
        RegistryError::Unreadable { status, .. } => *status == 404,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_grows_by_what_is_new_and_keeps_what_others_wrote() {
        let digest = digest_of(b"one");
        let entry = || serde_json::json!({"digest": digest, "size": 3});
        let first = with_entry(None, &digest, entry()).expect("an index").expect("a change");
        assert!(with_entry(Some(&first), &digest, entry()).expect("an index").is_none());
        let foreign = br#"{"schemaVersion":2,"manifests":[{"digest":"sha256:x","extra":1}],"annotations":{"a":"b"}}"#;
        let second = with_entry(Some(foreign), &digest, entry()).expect("an index").expect("a change");
        let json: Value = serde_json::from_slice(&second).expect("json");
        assert_eq!((&json["manifests"][0]["extra"], &json["annotations"]["a"]), (&1.into(), &"b".into()));
        assert_eq!(json["manifests"][1]["digest"], digest.to_string());
    }
}

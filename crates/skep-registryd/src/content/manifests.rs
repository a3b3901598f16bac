//! Manifests and tags: finding, storing, removing.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use skep_store::WriteTx;

use crate::content::blobs::release;
use crate::content::tables::{
    LINKS, MANIFESTS, ManifestRecord, REFERRERS, ReferrerRecord, Rows, TAGS, TagRecord, key, now, referrer_key,
    tag_key, tag_of,
};
use crate::content::{Content, hold, touch_repository};
use crate::digest::{Algorithm, ContentDigest};
use crate::error::{Code, Error, Refusal, Result};
use crate::manifest::{Descriptor, Manifest};
use crate::name::{ManifestReference, RepositoryName, Tag};
use crate::storage::read_all;

/// A manifest that is there.
#[derive(Debug, Clone)]
pub struct StoredManifest {
    /// Which.
    pub digest: ContentDigest,
    /// As what it was pushed.
    pub media_type: String,
    /// How many bytes.
    pub size: u64,
}

/// What a repository has to have of what a manifest names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Parts {
    /// Everything.
    #[default]
    All,
    /// Blobs; an index may name manifests that are not there.
    Blobs,
    /// Nothing: all of it comes when somebody asks for it.
    Nothing,
}

impl Content {
    /// Finds a manifest.
    pub async fn manifest(&self, repository: &RepositoryName, reference: &ManifestReference) -> Result<StoredManifest> {
        let (name, wanted) = (repository.clone(), reference.clone());
        let found = self
            .read(move |tx| {
                let digest = match &wanted {
                    ManifestReference::Digest(digest) => *digest,
                    ManifestReference::Tag(tag) => match tx.row(&TAGS, &tag_key(&name, tag))? {
                        Some(record) => record.digest,
                        None => return Ok(None),
                    },
                };
                Ok(tx.row(&MANIFESTS, &key(&name, &digest))?.map(|record| (digest, record)))
            })
            .await?;
        let Some((digest, record)) = found else { return Err(unknown(reference)) };
        // A manifest that goes between these two is found missing when its index comes, which is then refused.
        self.leases.take(repository, &digest);
        Ok(StoredManifest { digest, media_type: record.media_type, size: record.size })
    }

    /// The bytes of a manifest.
    pub async fn manifest_bytes(&self, manifest: &StoredManifest) -> Result<Bytes> {
        Ok(read_all(&*self.storage, &manifest.digest, manifest.size).await?)
    }

    /// Stores a manifest, under its tag if it has one; its digest.
    pub(crate) async fn put_manifest(
        &self,
        repository: &RepositoryName,
        reference: &ManifestReference,
        bytes: Bytes,
        manifest: Manifest,
        parts: Parts,
    ) -> Result<ContentDigest> {
        let (digest, tag) = match reference {
            ManifestReference::Tag(tag) => (ContentDigest::of(Algorithm::Sha256, &bytes), Some(tag.clone())),
            ManifestReference::Digest(expected) => {
                let digest = ContentDigest::of(expected.algorithm(), &bytes);
                if digest != *expected {
                    let detail = json!({"digest": expected.to_string(), "actual": digest.to_string()});
                    let refusal = Refusal::new(Code::DigestInvalid, "provided digest did not match uploaded content");
                    return Err(refusal.with(detail).into());
                }
                (digest, None)
            }
        };
        // Before anything is written; once more in the transaction, which alone counts.
        let (name, wanted) = (repository.clone(), manifest.clone());
        self.read(move |tx| check_parts(tx, &name, &wanted, parts)).await?;
        let size = bytes.len() as u64;
        let staged = self.uploads.stage(bytes).await?;
        let _stripe = self.stripe(&digest).await;
        self.storage.adopt(&digest, staged.path()).await?;
        let name = repository.clone();
        self.change(move |tx| {
            check_parts(tx, &name, &manifest, parts)?;
            record(tx, &name, &digest, &manifest, size)?;
            if let Some(tag) = tag {
                set_tag(tx, &name, &tag, digest)?;
            }
            touch_repository(tx, &name)
        })
        .await?;
        Ok(digest)
    }

    /// How long ago a tag was set, if it is there.
    pub(crate) async fn tag_age(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<Duration>> {
        let row = tag_key(repository, tag);
        let record = self.read(move |tx| Ok(tx.row(&TAGS, &row)?)).await?;
        Ok(record.map(|record| Duration::from_millis(u64::try_from(now() - record.updated).unwrap_or_default())))
    }

    /// What a manifest of a repository says of a blob.
    pub(crate) async fn descriptor(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
    ) -> Result<Option<Descriptor>> {
        let (prefix, blob) = (format!("{repository}\0"), *digest);
        let manifests = self.read(move |tx| Ok(tx.rows(&MANIFESTS, &prefix)?)).await?;
        let Some((name, record)) = manifests.into_iter().find(|(_, record)| record.blobs.contains(&blob)) else {
            return Ok(None);
        };
        let Ok(name) = name.parse::<ContentDigest>() else { return Ok(None) };
        let bytes = read_all(&*self.storage, &name, record.size).await?;
        let manifest = Manifest::parse(&bytes, &record.media_type).ok();
        let found = manifest
            .and_then(|manifest| manifest.config.into_iter().chain(manifest.blobs).find(|part| part.digest == blob));
        Ok(found)
    }

    /// Removes a tag; the manifest stays until garbage collection finds nothing that leads to it.
    pub async fn remove_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<()> {
        let (repository, tag) = (repository.clone(), tag.clone());
        self.change(move |tx| {
            if !drop_tag(tx, &repository, &tag)? {
                return Err(unknown(&ManifestReference::Tag(tag)));
            }
            touch_repository(tx, &repository)
        })
        .await
    }

    /// Removes a manifest with all its tags, unless an index needs it.
    pub async fn remove_manifest(&self, repository: &RepositoryName, digest: &ContentDigest) -> Result<()> {
        let (repository, digest) = (repository.clone(), *digest);
        self.change(move |tx| {
            let manifests = tx.rows(&MANIFESTS, &format!("{repository}\0"))?;
            let own = digest.to_string();
            if !manifests.iter().any(|(found, _)| *found == own) {
                return Err(unknown(&ManifestReference::Digest(digest)));
            }
            if let Some((index, _)) = manifests.iter().find(|(_, record)| record.children.contains(&digest)) {
                let refusal =
                    Refusal::new(Code::Unsupported, "the manifest is part of an index, which has to be deleted first");
                return Err(refusal.with(json!({"index": index})).into());
            }
            for (order, tag) in tx.rows(&TAGS, &format!("{repository}\0"))? {
                if tag.digest == digest {
                    tx.remove(&TAGS, &format!("{repository}\0{order}"))?;
                }
            }
            erase(tx, &repository, &digest)?;
            touch_repository(tx, &repository)
        })
        .await
    }
}

fn unknown(reference: &ManifestReference) -> Error {
    let detail = match reference {
        ManifestReference::Tag(tag) => json!({"tag": tag.as_str()}),
        ManifestReference::Digest(digest) => json!({"digest": digest.to_string()}),
    };
    Refusal::new(Code::ManifestUnknown, "manifest unknown").with(detail).into()
}

/// Everything that a manifest names has to be in its repository, and as large as it says.
fn check_parts(rows: &impl Rows, repository: &RepositoryName, manifest: &Manifest, parts: Parts) -> Result<()> {
    let mut missing = Vec::new();
    for part in manifest.needed_blobs().filter(|_| parts != Parts::Nothing) {
        let size = rows.row(&LINKS, &key(repository, &part.digest))?.map(|link| link.size);
        check_part(part, size, &mut missing)?;
    }
    for part in manifest.manifests.iter().filter(|_| parts == Parts::All) {
        let size = rows.row(&MANIFESTS, &key(repository, &part.digest))?.map(|child| child.size);
        check_part(part, size, &mut missing)?;
    }
    match missing.first() {
        None => Ok(()),
        Some(first) => {
            let detail = json!({"digest": first, "missing": missing});
            Err(Refusal::new(Code::ManifestBlobUnknown, "blob unknown to registry").with(detail).into())
        }
    }
}

fn check_part(part: &Descriptor, size: Option<u64>, missing: &mut Vec<String>) -> Result<()> {
    match size {
        None => missing.push(part.digest.to_string()),
        Some(size) if size != part.size => {
            let text = format!("manifest invalid: {} has {size} bytes, not {}", part.digest, part.size);
            return Err(Refusal::new(Code::ManifestInvalid, text).into());
        }
        Some(_) => {}
    }
    Ok(())
}

/// Enters a manifest into the tables.
fn record(
    tx: &WriteTx,
    repository: &RepositoryName,
    digest: &ContentDigest,
    manifest: &Manifest,
    size: u64,
) -> Result<()> {
    let row = key(repository, digest);
    let known = tx.row(&MANIFESTS, &row)?;
    let about = format!("{repository}\0{digest}\0");
    let referred = !tx.rows_after(&REFERRERS, &about, "", 1)?.is_empty();
    let subject = manifest.subject.as_ref().map(|subject| subject.digest);
    let subject_there = match &subject {
        Some(subject) => tx.row(&MANIFESTS, &key(repository, subject))?.is_some(),
        None => false,
    };
    let digests = |parts: &[Descriptor]| parts.iter().map(|part| part.digest).collect::<Vec<_>>();
    tx.put(
        &MANIFESTS,
        &row,
        &ManifestRecord {
            media_type: manifest.media_type.clone(),
            size,
            pushed: known.as_ref().map_or_else(now, |known| known.pushed),
            touched: now(),
            claimed: subject_there || known.is_some_and(|known| known.claimed),
            subject,
            artifact_type: manifest.artifact_type.clone(),
            children: digests(&manifest.manifests),
            blobs: manifest.config.iter().chain(&manifest.blobs).map(|part| part.digest).collect(),
        },
    )?;
    hold(tx, repository, digest, size)?;
    for child in &manifest.manifests {
        claim(tx, repository, &child.digest)?;
    }
    if referred {
        // What was pushed before its subject lives as long as that from now on.
        for (referrer, _) in tx.rows(&REFERRERS, &about)? {
            if let Ok(referrer) = referrer.parse() {
                claim(tx, repository, &referrer)?;
            }
        }
    }
    if let Some(subject) = subject {
        let descriptor = referrer(digest, manifest, size);
        tx.put(&REFERRERS, &referrer_key(repository, &subject, digest), &ReferrerRecord { descriptor })?;
    }
    Ok(())
}

/// A manifest as the referrers of its subject show it (distribution spec, "Listing Referrers").
fn referrer(digest: &ContentDigest, manifest: &Manifest, size: u64) -> Descriptor {
    Descriptor {
        media_type: manifest.media_type.clone(),
        digest: *digest,
        size,
        urls: Vec::new(),
        artifact_type: manifest.artifact_type.clone(),
        annotations: manifest.annotations.clone(),
        platform: None,
    }
}

fn claim(tx: &WriteTx, repository: &RepositoryName, digest: &ContentDigest) -> Result<()> {
    let row = key(repository, digest);
    if let Some(mut record) = tx.row(&MANIFESTS, &row)? {
        record.claimed = true;
        record.touched = now();
        tx.put(&MANIFESTS, &row, &record)?;
    }
    Ok(())
}

fn set_tag(tx: &WriteTx, repository: &RepositoryName, tag: &Tag, digest: ContentDigest) -> Result<()> {
    let row = tag_key(repository, tag);
    let before = tx.row(&TAGS, &row)?;
    if let Some(before) = before.filter(|before| before.digest != digest) {
        // Who pulls by the tag at this moment still wants the old one for a while.
        claim(tx, repository, &before.digest)?;
    }
    claim(tx, repository, &digest)?;
    tx.put(&TAGS, &row, &TagRecord { digest, updated: now() })?;
    Ok(())
}

/// Removes a tag; whether it was there.
pub(crate) fn drop_tag(tx: &WriteTx, repository: &RepositoryName, tag: &Tag) -> Result<bool> {
    let row = tag_key(repository, tag);
    let Some(record) = tx.row(&TAGS, &row)? else { return Ok(false) };
    tx.remove(&TAGS, &row)?;
    claim(tx, repository, &record.digest)?;
    Ok(true)
}

/// Takes a manifest that no tag names out of the tables.
pub(crate) fn erase(tx: &WriteTx, repository: &RepositoryName, digest: &ContentDigest) -> Result<()> {
    let row = key(repository, digest);
    if let Some(record) = tx.row(&MANIFESTS, &row)? {
        tx.remove(&MANIFESTS, &row)?;
        if let Some(subject) = record.subject {
            tx.remove(&REFERRERS, &referrer_key(repository, &subject, digest))?;
        }
        release(tx, repository, digest)?;
    }
    Ok(())
}

/// The tags of a repository with the digests they stand for.
pub(crate) fn tags(rows: &impl Rows, repository: &RepositoryName) -> Result<Vec<(Tag, TagRecord)>> {
    let all = rows.rows(&TAGS, &format!("{repository}\0"))?;
    Ok(all.into_iter().filter_map(|(order, record)| Some((tag_of(&order).parse().ok()?, record))).collect())
}

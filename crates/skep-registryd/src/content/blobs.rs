//! Blobs: looking, mounting, finishing an upload, removing.

use serde_json::json;
use skep_store::WriteTx;
use tokio::sync::OwnedMutexGuard;

use crate::content::tables::{
    CONTENT, HOLDERS, LINKS, LinkRecord, MANIFESTS, REPOSITORIES, RepositoryRecord, Rows, holder, key, now,
};
use crate::content::uploads::{Session, Staged, seal};
use crate::content::{Content, hold};
use crate::digest::ContentDigest;
use crate::error::{Code, Refusal, Result};
use crate::name::{RepositoryName, UploadId};

/// How a mount ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mount {
    /// The blob is in the repository now.
    Done,
    /// It has to be uploaded.
    NotThere,
}

impl Content {
    /// The size of a blob of a repository.
    pub async fn blob(&self, repository: &RepositoryName, digest: &ContentDigest) -> Result<u64> {
        let row = key(repository, digest);
        // Before looking: else a collection could come between the look and the lease.
        self.leases.take(repository, digest);
        match self.read(move |tx| Ok(tx.row(&LINKS, &row)?)).await? {
            Some(link) => Ok(link.size),
            None => {
                self.leases.give_back(repository, digest);
                Err(unknown(digest).into())
            }
        }
    }

    /// Finishes an upload as a blob of `expected`; it is over afterwards, whatever comes of it.
    pub(crate) async fn finish_upload(
        &self,
        repository: &RepositoryName,
        id: &UploadId,
        mut upload: OwnedMutexGuard<Option<Session>>,
        expected: &ContentDigest,
    ) -> Result<u64> {
        let found = seal(&mut upload, expected.algorithm()).await?;
        if found != *expected {
            self.uploads.end(id, upload).await?;
            let detail = json!({"digest": expected.to_string(), "actual": found.to_string()});
            let refusal = Refusal::new(Code::DigestInvalid, "provided digest did not match uploaded content");
            return Err(refusal.with(detail).into());
        }
        let (size, path) = upload.as_ref().map(|session| (session.size(), session.path())).unwrap_or_default();
        let stripe = self.stripe(expected).await;
        self.storage.adopt(expected, &path).await?;
        let (name, digest) = (repository.clone(), *expected);
        self.change(move |tx| link(tx, &name, &digest, size)).await?;
        drop(stripe);
        self.uploads.end(id, upload).await?;
        Ok(size)
    }

    /// Takes a file whose bytes have this digest as a blob of a repository.
    pub(crate) async fn adopt_blob(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
        size: u64,
        staged: Staged,
    ) -> Result<()> {
        let _stripe = self.stripe(digest).await;
        self.storage.adopt(digest, staged.path()).await?;
        let (name, digest) = (repository.clone(), *digest);
        self.change(move |tx| link(tx, &name, &digest, size)).await
    }

    /// Takes content that the storage has already as a blob of a repository; whether it was there.
    pub(crate) async fn adopt_known(
        &self,
        repository: &RepositoryName,
        digest: &ContentDigest,
        size: u64,
    ) -> Result<bool> {
        let _stripe = self.stripe(digest).await;
        let (name, digest) = (repository.clone(), *digest);
        self.change(move |tx| match tx.row(&CONTENT, &digest.to_string())? {
            Some(known) if known.size == size => link(tx, &name, &digest, size).map(|()| true),
            _ => Ok(false),
        })
        .await
    }

    /// Makes a blob of one repository a blob of another, too.
    pub async fn mount(&self, to: &RepositoryName, from: &RepositoryName, digest: &ContentDigest) -> Result<Mount> {
        let (to, from, digest) = (to.clone(), from.clone(), *digest);
        self.change(move |tx| match tx.row(&LINKS, &key(&from, &digest))? {
            None => Ok(Mount::NotThere),
            Some(source) => link(tx, &to, &digest, source.size).map(|()| Mount::Done),
        })
        .await
    }

    /// Repositories in which this is a blob, at most `limit`.
    pub(crate) async fn repositories_with(&self, digest: &ContentDigest, limit: usize) -> Result<Vec<RepositoryName>> {
        let digest = *digest;
        self.read(move |tx| {
            let holders = tx.rows_after(&HOLDERS, &format!("{digest}\0"), "", limit)?;
            let mut names = Vec::new();
            for name in holders.into_iter().filter_map(|(name, ())| name.parse::<RepositoryName>().ok()) {
                if tx.row(&LINKS, &key(&name, &digest))?.is_some() {
                    names.push(name);
                }
            }
            Ok(names)
        })
        .await
    }

    /// Removes a blob from a repository, unless a manifest there needs it. Its bytes go with the next garbage collection.
    pub async fn remove_blob(&self, repository: &RepositoryName, digest: &ContentDigest) -> Result<()> {
        let (repository, digest) = (repository.clone(), *digest);
        self.change(move |tx| {
            if tx.row(&LINKS, &key(&repository, &digest))?.is_none() {
                return Err(unknown(&digest).into());
            }
            let manifests = tx.rows(&MANIFESTS, &format!("{repository}\0"))?;
            if let Some((user, _)) = manifests.iter().find(|(_, manifest)| manifest.blobs.contains(&digest)) {
                let refusal =
                    Refusal::new(Code::Unsupported, "the blob is part of a manifest, which has to be deleted first");
                return Err(refusal.with(json!({"manifest": user})).into());
            }
            unlink(tx, &repository, &digest)
        })
        .await
    }
}

fn unknown(digest: &ContentDigest) -> Refusal {
    Refusal::new(Code::BlobUnknown, "blob unknown to registry").with(json!({"digest": digest.to_string()}))
}

/// Shows content in a repository.
fn link(tx: &WriteTx, repository: &RepositoryName, digest: &ContentDigest, size: u64) -> Result<()> {
    tx.put(&LINKS, &key(repository, digest), &LinkRecord { size, touched: now() })?;
    hold(tx, repository, digest, size)?;
    let name = repository.to_string();
    if tx.row(&REPOSITORIES, &name)?.is_none() {
        tx.put(&REPOSITORIES, &name, &RepositoryRecord { created: now(), generation: 0 })?;
    }
    Ok(())
}

/// Hides a blob from a repository.
pub(crate) fn unlink(tx: &WriteTx, repository: &RepositoryName, digest: &ContentDigest) -> Result<()> {
    tx.remove(&LINKS, &key(repository, digest))?;
    release(tx, repository, digest)
}

/// Notes that a repository needs content no more, unless it does so in another role.
pub(crate) fn release(tx: &WriteTx, repository: &RepositoryName, digest: &ContentDigest) -> Result<()> {
    let row = key(repository, digest);
    if tx.row(&LINKS, &row)?.is_none() && tx.row(&MANIFESTS, &row)?.is_none() {
        tx.remove(&HOLDERS, &holder(digest, repository))?;
    }
    Ok(())
}

/// Whether anybody needs some content.
pub(crate) fn is_held(rows: &impl Rows, digest: &ContentDigest) -> Result<bool> {
    Ok(!rows.rows_after(&HOLDERS, &format!("{digest}\0"), "", 1)?.is_empty())
}

/// Forgets content that nobody needs; whether there was any.
pub(crate) fn forget(tx: &WriteTx, digest: &ContentDigest) -> Result<bool> {
    if is_held(tx, digest)? {
        return Ok(false);
    }
    tx.remove(&CONTENT, &digest.to_string())?;
    Ok(true)
}

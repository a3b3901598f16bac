//! What stands between the outside and the store: the signature policy, and limits on what an image may cost.
//!
//! Every way in asks here before a layer is fetched or unpacked: pull (also the one that `run` begins), load (also an image
//! copied from another engine) and import. What is made here (`commit`, `build`) isn't asked about.
//!
//! The policy is read each time, so that an edit holds from the next image on. A policy that is there and can't be read or understood lets
//! nothing in.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_fs::Root;
use skep_fs::apply::Limits;
use skep_policy::file::MAX_POLICY_SIZE;
use skep_policy::{Candidate, Policy, Rejection, Signature, Source, evaluate};
use skep_registry::Repository;
use skep_types::{Digest, Reference};

use super::Result;
use super::change::run_blocking;

/// The most bytes that a file with a key may have.
const MAX_KEY_SIZE: u64 = 1 << 20;

/// Where the signature policy is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PolicyFile {
    /// Everything is let in.
    #[default]
    None,
    /// In this file; if there is none, everything is let in.
    IfPresent(PathBuf),
    /// In this file; if there is none, nothing is let in.
    Required(PathBuf),
}

/// What an image has to get past.
#[derive(Debug, Clone, Default)]
pub struct Guards {
    /// The signature policy.
    pub policy: PolicyFile,
    /// What one layer may cost.
    pub limits: Limits,
}

impl Guards {
    /// Whether the image behind `reference` may be pulled. `digests` are those of its manifest and of the indexes that led to it.
    pub(super) async fn admit_pull(
        &self,
        repository: &Repository,
        reference: &Reference,
        digests: Vec<Digest>,
    ) -> Result<()> {
        let file = self.policy.clone();
        let Some(policy) = run_blocking(move || read_policy(&file)).await?.map(Arc::new) else { return Ok(()) };
        let reference = asked_for(reference);
        let mut signatures = Vec::new();
        if !policy.needs_signatures(&Source::Docker(&reference)) {
            return decide(&policy, &reference, &digests, &signatures).await;
        }
        let mut last = Ok(());
        // The manifest itself first: most signers sign that.
        for digest in digests.iter().rev() {
            let found = repository.signatures(digest).await?;
            signatures.extend(found.into_iter().map(|found| Signature {
                media_type: found.media_type,
                annotations: found.annotations,
                payload: found.payload,
            }));
            last = decide(&policy, &reference, &digests, &signatures).await;
            if last.is_ok() {
                break;
            }
        }
        last
    }

    /// Whether an archive may come in. Blocks.
    pub(super) fn admit_archive(&self, source: Source<'_>) -> Result<()> {
        let Some(policy) = read_policy(&self.policy)? else { return Ok(()) };
        let candidate = Candidate { source, digests: &[], signatures: &[] };
        Ok(evaluate(&policy, &candidate, &|path| read_file(path, MAX_KEY_SIZE))?)
    }
}

/// What the policy compares with: a digest wins over a tag.
fn asked_for(reference: &Reference) -> Reference {
    match reference.digest() {
        Some(digest) => reference.with_digest(digest),
        None => reference.or_latest(),
    }
}

async fn decide(
    policy: &Arc<Policy>,
    reference: &Reference,
    digests: &[Digest],
    signatures: &[Signature],
) -> Result<()> {
    let policy = Arc::clone(policy);
    let (reference, digests, signatures) = (reference.clone(), digests.to_vec(), signatures.to_vec());
    run_blocking(move || {
        let source = Source::Docker(&reference);
        let candidate = Candidate { source, digests: &digests, signatures: &signatures };
        Ok(evaluate(&policy, &candidate, &|path| read_file(path, MAX_KEY_SIZE))?)
    })
    .await
}

fn read_policy(file: &PolicyFile) -> Result<Option<Policy>> {
    let (path, required) = match file {
        PolicyFile::None => return Ok(None),
        PolicyFile::IfPresent(path) => (path, false),
        PolicyFile::Required(path) => (path, true),
    };
    let refused = |why: String| Rejection(format!("signature policy {}: {why}", path.display()));
    match read_file(path, MAX_POLICY_SIZE) {
        Ok(bytes) => Ok(Some(Policy::parse(&bytes).map_err(|e| refused(format!("invalid policy: {e}")))?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => Ok(None),
        Err(error) => Err(refused(error.to_string()).into()),
    }
}

/// Reads a small regular file of the host; anything else in its place is an error, and never blocks.
fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    Root::open(Path::new("/"))?.read_file(path, limit)
}

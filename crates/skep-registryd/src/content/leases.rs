//! Content that a client was told is there: it will rely on it, and may say so only minutes later with a manifest.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::content::tables::{Moment, key, now};
use crate::digest::ContentDigest;
use crate::name::RepositoryName;

/// When a client last asked for what. Not more entries than there is content; lost with the process, which is why garbage
/// collection counts the process's start as a lease on everything.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashMap<String, Moment>>);

impl Leases {
    /// A client asked for this.
    pub(crate) fn take(&self, repository: &RepositoryName, digest: &ContentDigest) {
        self.0.lock().insert(key(repository, digest), now());
    }

    /// It was not there after all.
    pub(crate) fn give_back(&self, repository: &RepositoryName, digest: &ContentDigest) {
        self.0.lock().remove(&key(repository, digest));
    }

    /// Whether it was asked for since then.
    pub(crate) fn since(&self, repository: &RepositoryName, digest: &ContentDigest, cutoff: Moment) -> bool {
        self.0.lock().get(&key(repository, digest)).is_some_and(|taken| *taken > cutoff)
    }

    /// Forgets what is older.
    pub(crate) fn forget(&self, cutoff: Moment) {
        self.0.lock().retain(|_, taken| *taken > cutoff);
    }
}

//! Directories of `RUN --mount=type=cache`: they outlive builds, and are known by name.
//!
//! ```text
//! D/build/cache/NAME-0     the directory of that name; NAME is a digest of the id and of what it begins with
//! D/build/cache/NAME-1     further ones, for steps that want it for themselves (`sharing=private`) while it is in use
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use skep_build::BuildError;
use skep_build::graph::Sharing;
use skep_store::{Db, DbError, Table};
use skep_types::ErrorKind;
use tokio::sync::OwnedMutexGuard;

use super::error::failed;

const CACHE_DIRS: Table<String, CacheDir> = Table::new("build_cache_dirs", 1);

/// What is known of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheDir {
    /// The name that a Dockerfile calls it.
    pub(crate) id: String,
    pub(crate) created: DateTime<Utc>,
    pub(crate) last_used: DateTime<Utc>,
    pub(crate) uses: u64,
}

/// Who uses which directory now.
#[derive(Default)]
pub(crate) struct CacheDirs {
    users: Arc<Mutex<BTreeMap<String, usize>>>,
    locks: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// A directory in use.
pub(super) struct Taken {
    pub(super) path: PathBuf,
    /// Whether it was made just now.
    pub(super) fresh: bool,
    name: String,
    users: Arc<Mutex<BTreeMap<String, usize>>>,
    _lock: Option<OwnedMutexGuard<()>>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut users = self.users.lock();
        if let Some(count) = users.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                users.remove(&self.name);
            }
        }
    }
}

impl Taken {
    /// What was to be put into a fresh directory could not be: the next one tries again.
    pub(super) fn discard(self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl CacheDirs {
    /// Takes the directory `name` (letters and digits), which a Dockerfile calls `id`; waits while someone else has it locked.
    pub(super) async fn take(
        &self,
        top: &Path,
        db: &Db,
        (name, id): (&str, &str),
        sharing: Sharing,
    ) -> Result<Taken, BuildError> {
        let lock = match sharing {
            Sharing::Locked => {
                let lock = Arc::clone(self.locks.lock().entry(name.to_owned()).or_default());
                Some(lock.lock_owned().await)
            }
            Sharing::Shared | Sharing::Private => None,
        };
        let name = self.enter(name, sharing);
        let path = top.join(&name);
        let mut taken = Taken { path, fresh: false, name, users: Arc::clone(&self.users), _lock: lock };
        let fresh = match std::fs::create_dir(&taken.path) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(&taken.path).map_err(failed("make a cache directory"))?;
                true
            }
            Err(error) => return Err(failed("make a cache directory")(error)),
        };
        note(db, &taken.name, id).map_err(|error| BuildError::new(ErrorKind::System, error.to_string()))?;
        taken.fresh = fresh;
        Ok(taken)
    }

    /// Counts a user of the first directory of that name that may be used, and tells which.
    fn enter(&self, name: &str, sharing: Sharing) -> String {
        let mut users = self.users.lock();
        let mut number = 0;
        loop {
            let candidate = format!("{name}-{number}");
            let count = users.entry(candidate.clone()).or_default();
            if *count == 0 || sharing != Sharing::Private {
                *count += 1;
                return candidate;
            }
            number += 1;
        }
    }

    /// The directories that steps use now.
    pub(crate) fn in_use(&self) -> BTreeSet<String> {
        self.users.lock().keys().cloned().collect()
    }
}

fn note(db: &Db, name: &String, id: &str) -> Result<(), DbError> {
    db.write(|tx| {
        let now = Utc::now();
        let known = tx.get(&CACHE_DIRS, name)?;
        let mut dir = known.unwrap_or(CacheDir { id: id.to_owned(), created: now, last_used: now, uses: 0 });
        dir.last_used = now;
        dir.uses += 1;
        tx.put(&CACHE_DIRS, name, &dir)
    })
}

/// All directories that are known, by name.
pub(crate) fn all(db: &Db) -> Result<Vec<(String, CacheDir)>, DbError> {
    db.read(|tx| tx.all(&CACHE_DIRS))
}

/// Forgets a directory.
pub(crate) fn forget(db: &Db, name: &String) -> Result<(), DbError> {
    db.write(|tx| tx.remove(&CACHE_DIRS, name).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_private_directory_is_given_to_one_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("meta.redb")).expect("a database");
        let dirs = CacheDirs::default();
        let take = |sharing| dirs.take(dir.path(), &db, ("n", "apt"), sharing);
        let one = take(Sharing::Private).await.expect("one");
        let two = take(Sharing::Private).await.expect("two");
        let shared = take(Sharing::Shared).await.expect("shared");
        assert!(one.fresh && two.fresh && !shared.fresh);
        assert_eq!((one.path == two.path, one.path == shared.path), (false, true));
        drop((one, two, shared));
        let again = take(Sharing::Private).await.expect("again");
        assert!(!again.fresh && again.path.ends_with("n-0"));
        assert_eq!(all(&db).expect("records").into_iter().map(|(_, dir)| dir.uses).collect::<Vec<_>>(), [3, 1]);
    }

    #[tokio::test]
    async fn who_locks_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("meta.redb")).expect("a database");
        let dirs = CacheDirs::default();
        let first = dirs.take(dir.path(), &db, ("n", "apt"), Sharing::Locked).await.expect("first");
        let mut second = Box::pin(dirs.take(dir.path(), &db, ("n", "apt"), Sharing::Locked));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        second.await.expect("second");
        assert!(dirs.in_use().is_empty());
    }
}

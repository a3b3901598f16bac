//! Directories of `RUN --mount=type=cache`: they outlive builds, and are known by name.
//!
//! ```text
//! D/build/cache/NAME-0     the directory of that name; NAME is a digest of the id and of what it begins with
//! D/build/cache/new-X      one that is being filled; nobody uses it before it has its name
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

/// How the names of unfinished directories begin.
const FRESH: &str = "new-";

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
    used: Arc<Mutex<Used>>,
    locks: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Default)]
struct Used {
    users: BTreeMap<String, usize>,
    /// Those that are being removed: nobody gets them any more.
    leaving: BTreeSet<String>,
}

/// A directory in use.
pub(super) struct Taken {
    pub(super) path: PathBuf,
    /// Where it is made if there is none: what it begins with is put there, and only [`Taken::install`] lets others see it.
    fresh: Option<PathBuf>,
    name: String,
    used: Arc<Mutex<Used>>,
    _lock: Option<OwnedMutexGuard<()>>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(fresh) = self.fresh.take() {
            // What is left is removed at the next start.
            let _ = std::fs::remove_dir_all(fresh);
        }
        let mut used = self.used.lock();
        if let Some(count) = used.users.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                used.users.remove(&self.name);
            }
        }
    }
}

impl Taken {
    /// The directory to fill before it is used; none if it is there already.
    pub(super) fn fresh(&self) -> Option<&Path> {
        self.fresh.as_deref()
    }

    /// Puts the filled directory in its place. Someone who was faster wins: what he put there is the same.
    pub(super) fn install(&mut self) -> std::io::Result<()> {
        let Some(fresh) = &self.fresh else { return Ok(()) };
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(rustix::fs::CWD, fresh, rustix::fs::CWD, &self.path, flags) {
            Ok(()) => {
                self.fresh = None;
                Ok(())
            }
            Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A directory that is being removed. Nobody gets it as long as this lives.
pub(super) struct Leaving {
    name: String,
    used: Arc<Mutex<Used>>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.used.lock().leaving.remove(&self.name);
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
        let mut taken = Taken { path: top.join(&name), fresh: None, name, used: Arc::clone(&self.used), _lock: lock };
        if !taken.path.is_dir() {
            taken.fresh = Some(fresh(top).map_err(failed("make a cache directory"))?);
        }
        note(db, &taken.name, id).map_err(|error| BuildError::new(ErrorKind::System, error.to_string()))?;
        Ok(taken)
    }

    /// Counts a user of the first directory of that name that may be used, and tells which.
    fn enter(&self, name: &str, sharing: Sharing) -> String {
        let mut used = self.used.lock();
        let mut number = 0;
        loop {
            let candidate = format!("{name}-{number}");
            let free = !used.users.contains_key(&candidate) || sharing != Sharing::Private;
            if free && !used.leaving.contains(&candidate) {
                *used.users.entry(candidate.clone()).or_default() += 1;
                return candidate;
            }
            number += 1;
        }
    }

    /// Uses a directory that there is, as a step would that has it in common with others; none if it is being removed.
    pub(super) fn hold(&self, top: &Path, name: &str) -> Option<Taken> {
        let mut used = self.used.lock();
        if used.leaving.contains(name) {
            return None;
        }
        *used.users.entry(name.to_owned()).or_default() += 1;
        let used = Arc::clone(&self.used);
        Some(Taken { path: top.join(name), fresh: None, name: name.to_owned(), used, _lock: None })
    }

    /// The directories that steps use now.
    pub(crate) fn in_use(&self) -> BTreeSet<String> {
        self.used.lock().users.keys().cloned().collect()
    }

    /// Removes the place of all of them if there is none, and nobody about to make one.
    pub(crate) fn remove_empty(&self, top: &Path) -> std::io::Result<()> {
        let used = self.used.lock();
        if used.users.is_empty() { super::sources::remove_if_empty(top) } else { Ok(()) }
    }

    /// Takes a directory that nobody uses, to remove it.
    pub(super) fn leave(&self, name: &str) -> Option<Leaving> {
        let mut used = self.used.lock();
        let free = !used.users.contains_key(name) && used.leaving.insert(name.to_owned());
        free.then(|| Leaving { name: name.to_owned(), used: Arc::clone(&self.used) })
    }
}

/// A directory to be filled before it has its name.
pub(super) fn fresh(top: &Path) -> std::io::Result<PathBuf> {
    let fresh = top.join(format!("{FRESH}{}", skep_fs::atomic::random_name()));
    std::fs::create_dir_all(&fresh)?;
    Ok(fresh)
}

/// Removes what was being filled when an earlier daemon ended. Blocking.
pub(super) fn sweep(top: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(top) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(FRESH) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
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

/// Notes a directory that no step has used.
pub(super) fn record(db: &Db, name: &String, dir: &CacheDir) -> Result<(), DbError> {
    db.write(|tx| tx.put(&CACHE_DIRS, name, dir))
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
        let take = async |sharing| {
            let mut taken = dirs.take(dir.path(), &db, ("n", "apt"), sharing).await.expect("taken");
            let fresh = taken.fresh().is_some();
            taken.install().expect("installed");
            (taken, fresh)
        };
        let (one, two, shared) =
            (take(Sharing::Private).await, take(Sharing::Private).await, take(Sharing::Shared).await);
        assert!(one.1 && two.1 && !shared.1);
        assert_eq!((one.0.path == two.0.path, one.0.path == shared.0.path), (false, true));
        drop((one, two, shared));
        let again = take(Sharing::Private).await;
        assert!(!again.1 && again.0.path.ends_with("n-0"));
        assert_eq!(all(&db).expect("records").into_iter().map(|(_, dir)| dir.uses).collect::<Vec<_>>(), [3, 1]);
    }

    #[tokio::test]
    async fn a_new_directory_is_seen_when_it_is_filled() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("meta.redb")).expect("a database");
        let dirs = CacheDirs::default();
        let take = async || dirs.take(dir.path(), &db, ("n", "apt"), Sharing::Shared).await.expect("taken");
        let (mut one, mut two) = (take().await, take().await);
        std::fs::write(one.fresh().expect("fresh").join("full"), "").expect("a file");
        assert!(two.fresh().is_some() && !two.path.exists(), "it is not seen half full");
        one.install().expect("installed");
        two.install().expect("the other is there");
        drop(two);
        assert!(one.path.join("full").exists());
        assert_eq!(std::fs::read_dir(dir.path()).expect("a list").count(), 2, "nothing else but the database");
        assert!(dirs.leave("n-0").is_none(), "it is in use");
        drop(one);
        let leaving = dirs.leave("n-0").expect("nobody uses it");
        assert!(take().await.path.ends_with("n-1"), "it can't be had any more");
        drop(leaving);
        std::fs::create_dir(dir.path().join("new-x")).expect("a directory");
        sweep(dir.path()).expect("swept");
        assert!(!dir.path().join("new-x").exists());
    }

    #[tokio::test]
    async fn what_is_read_is_not_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let dirs = CacheDirs::default();
        let held = dirs.hold(dir.path(), "n-0").expect("nobody removes it");
        assert!(dirs.leave("n-0").is_none());
        drop(held);
        let leaving = dirs.leave("n-0").expect("nobody uses it");
        assert!(dirs.hold(dir.path(), "n-0").is_none());
        drop(leaving);
        assert!(dirs.hold(dir.path(), "n-0").is_some());
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

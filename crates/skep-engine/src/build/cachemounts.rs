//! Directories of `RUN --mount=type=cache` as objects of their own: listed by name, written as an archive, filled from one, removed.
//!
//! A directory that is filled takes the place of the old one in one step, and only while no build uses it: a step never sees half of
//! an archive.

use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use skep_build::BuildError;
use skep_build::cache::{Filter, Listed, Prune};
use skep_fs::Root;
use skep_store::DbError;
use skep_types::ErrorKind;

use super::cachedirs::{self, CacheDir, Taken};
use super::error::{blocking, failed, store};
use super::usage;
use crate::engine::Inner;

/// A directory that steps have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMount {
    /// Its name in the cache, as `du` shows it.
    pub id: String,
    /// What Dockerfiles call it: `id=`, or else the target.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When the first step wanted it.
    pub created: DateTime<Utc>,
    /// When the last one did.
    pub last_used: DateTime<Utc>,
    /// How many did.
    pub uses: u64,
    /// Whether one uses it now.
    pub in_use: bool,
}

/// How a directory is made that is not there: as a mount's `mode`, `uid` and `gid` say, which are part of what it is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewCacheMount {
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Default for NewCacheMount {
    fn default() -> Self {
        NewCacheMount { mode: 0o755, uid: 0, gid: 0 }
    }
}

/// One that was found, by the name of its directory.
struct Found {
    directory: String,
    known: CacheDir,
}

/// All that there are, by name.
pub(crate) async fn list(engine: &Arc<Inner>) -> Result<Vec<CacheMount>, BuildError> {
    let engine = Arc::clone(engine);
    blocking(move || {
        let mut all: Vec<CacheMount> =
            usage::cache_mounts(&engine)?.into_iter().map(|(known, _, listed)| describe(known, &listed)).collect();
        all.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        Ok(all)
    })
    .await
}

fn describe(known: CacheDir, listed: &Listed) -> CacheMount {
    CacheMount {
        id: listed.record.id(),
        name: known.id,
        size: listed.record.size,
        created: known.created,
        last_used: known.last_used,
        uses: known.uses,
        in_use: listed.in_use,
    }
}

/// The one that is meant: by its id, or by its name if no other has the same. Blocking.
fn find(engine: &Inner, wanted: &str) -> Result<Found, BuildError> {
    let bare = |name: &str| name.trim_start_matches('/').to_owned();
    let mut named = Vec::new();
    for (directory, known) in cachedirs::all(engine.storage.store().db()).map_err(broken)? {
        let id = usage::cache_mount_id(&directory);
        if id == wanted {
            return Ok(Found { directory, known });
        }
        if bare(&known.id) == bare(wanted) {
            named.push((id, Found { directory, known }));
        }
    }
    if named.len() > 1 {
        let ids: Vec<&str> = named.iter().map(|(id, _)| id.as_str()).collect();
        let text = format!("several cache mounts are called {wanted:?}: {}", ids.join(", "));
        return Err(BuildError::new(ErrorKind::Conflict, text));
    }
    let missing = || BuildError::new(ErrorKind::NotFound, format!("no such cache mount: {wanted}"));
    named.pop().map(|(_, found)| found).ok_or_else(missing)
}

/// Takes one, so that it stays while it is read.
pub(crate) async fn hold(engine: &Arc<Inner>, wanted: String) -> Result<(Root, Held), BuildError> {
    let engine = Arc::clone(engine);
    blocking(move || {
        let found = find(&engine, &wanted)?;
        let missing = || BuildError::new(ErrorKind::NotFound, format!("no such cache mount: {wanted}"));
        let held = engine.builds.caches.hold(&top(&engine), &found.directory).ok_or_else(missing)?;
        let root = Root::open(&held.path).map_err(failed("open a cache directory"))?;
        Ok((root, Held(held)))
    })
    .await
}

/// One that is not removed as long as this lives.
pub(crate) struct Held(#[expect(dead_code, reason = "kept for its end")] Taken);

/// Removes one.
pub(crate) async fn remove(engine: &Arc<Inner>, wanted: String) -> Result<(), BuildError> {
    let inner = Arc::clone(engine);
    let name = wanted.clone();
    let found = blocking(move || find(&inner, &name)).await?;
    let id = format!("^{}$", usage::cache_mount_id(&found.directory));
    let filter = Filter::default().and("id", &id).map_err(|error| BuildError::invalid(error.to_string()))?;
    let gone = usage::prune(engine, Prune { all: true, filters: vec![filter], ..Prune::default() }).await?;
    if gone.is_empty() { Err(busy(&wanted)) } else { Ok(()) }
}

/// Fills one from an archive; what it held goes. Blocking.
pub(crate) fn fill(
    engine: &Inner,
    wanted: &str,
    new: NewCacheMount,
    archive: impl Read + Send,
) -> Result<(), BuildError> {
    let found = match find(engine, wanted) {
        Ok(found) => found,
        Err(error) if error.kind == ErrorKind::NotFound && !wanted.is_empty() => made(wanted, new),
        Err(error) => return Err(error),
    };
    let top = top(engine);
    let path = top.join(&found.directory);
    let leaving = engine.builds.caches.leave(&found.directory).ok_or_else(|| busy(wanted))?;
    let fresh = Fresh::unpack(&top, like(&path)?.unwrap_or(new), archive)?;
    // The record first: a directory without one would be nobody's.
    cachedirs::record(engine.storage.store().db(), &found.directory, &found.known).map_err(broken)?;
    if path.exists() {
        engine.storage.trash(&path).map_err(store)?;
    }
    fresh.install(&path)?;
    drop(leaving);
    Ok(())
}

/// What the first step that wants this name will find.
fn made(wanted: &str, new: NewCacheMount) -> Found {
    let now = Utc::now();
    let name = super::step::cache_name(wanted, None, (new.mode, new.uid, new.gid));
    Found {
        directory: format!("{name}-0"),
        known: CacheDir { id: wanted.to_owned(), created: now, last_used: now, uses: 0 },
    }
}

/// What the directory there is like; none if there is none.
fn like(path: &Path) -> Result<Option<NewCacheMount>, BuildError> {
    use std::os::unix::fs::MetadataExt;
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(NewCacheMount { mode: found.mode() & 0o7777, uid: found.uid(), gid: found.gid() })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at a cache directory")(error)),
    }
}

/// A directory that is being filled. It goes unless it is installed.
struct Fresh(Option<PathBuf>);

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // What is left is removed at the next start.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

impl Fresh {
    fn unpack(top: &Path, new: NewCacheMount, archive: impl Read + Send) -> Result<Self, BuildError> {
        let path = cachedirs::fresh(top).map_err(failed("make a cache directory"))?;
        let fresh = Fresh(Some(path.clone()));
        let decoded = skep_fs::decode::Decoder::new(archive)
            .map_err(|error| BuildError::invalid(format!("reading the archive: {error}")))?;
        let root = Root::open(&path).map_err(failed("open a cache directory"))?;
        let options = skep_fs::apply::ExtractOptions::default();
        skep_fs::apply::extract(decoded, &root, Path::new("."), &options)
            .map_err(|error| BuildError::invalid(format!("unpacking the archive: {error}")))?;
        chown(&path, Some(new.uid), Some(new.gid))
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(new.mode)))
            .map_err(failed("set the owner of a cache directory"))?;
        Ok(fresh)
    }

    fn install(mut self, path: &Path) -> Result<(), BuildError> {
        let Some(fresh) = self.0.as_ref() else { return Ok(()) };
        std::fs::rename(fresh, path).map_err(failed("make a cache directory"))?;
        self.0 = None;
        Ok(())
    }
}

fn top(engine: &Inner) -> PathBuf {
    engine.config.data_root.join("build/cache")
}

fn busy(wanted: &str) -> BuildError {
    BuildError::new(ErrorKind::Conflict, format!("cache mount {wanted} is in use by a build"))
}

fn broken(error: DbError) -> BuildError {
    BuildError::new(ErrorKind::System, error.to_string())
}

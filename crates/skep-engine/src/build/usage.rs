//! What builds keep: layers that steps made, directories of clients and of caches, what was fetched. And what of it goes.

use std::any::Any;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use skep_build::BuildError;
use skep_build::cache::{Content, DiskUse, Listed, Prune, Record, RecordKind, plan};
use skep_registry::digest_of;
use skep_types::{Digest, ErrorKind};

use super::cachedirs::{self, CacheDir};
use super::error::{blocking, engine as engine_error, failed, store};
use super::sources::Slots;
use crate::engine::Inner;
use crate::storage::tree_size;

/// All that builds keep.
pub(super) async fn list(engine: &Arc<Inner>) -> Result<Vec<Listed>, BuildError> {
    let engine = Arc::clone(engine);
    blocking(move || list_now(&engine)).await
}

fn list_now(engine: &Inner) -> Result<Vec<Listed>, BuildError> {
    let shared = engine.images.layers_of_images();
    let mut all = engine.builds.cache.list(|chain| shared.contains(chain));
    all.extend(directories(engine)?.into_iter().map(|(_, listed)| listed));
    Ok(all)
}

/// Directories with what is shown of them.
fn directories(engine: &Inner) -> Result<Vec<(PathBuf, Listed)>, BuildError> {
    let top = engine.config.data_root.join("build");
    let mounts = cache_mounts(engine)?.into_iter().map(|(_, path, listed)| (path, listed));
    let mut all: Vec<_> = mounts.collect();
    for (kind, slots, sort, description) in fetched(engine) {
        for path in children(&top.join(kind))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let content = Content::Directory(format!("{kind}/{name}"));
            let used = last_used(&path);
            let record =
                Record::new(key(&content), sort, description.to_owned(), content, tree_size(&path), Vec::new());
            let record = Record { created: used, last_used: Some(used), ..record };
            all.push((path.clone(), Listed { record, in_use: slots.has(&path), shared: false }));
        }
    }
    Ok(all)
}

/// Directories of cache mounts.
pub(super) fn cache_mounts(engine: &Inner) -> Result<Vec<(CacheDir, PathBuf, Listed)>, BuildError> {
    let top = engine.config.data_root.join("build/cache");
    let broken = |error: skep_store::DbError| BuildError::new(ErrorKind::System, error.to_string());
    let used = engine.builds.caches.in_use();
    let listed = |(name, dir): (String, CacheDir)| {
        let path = top.join(&name);
        let description = format!("cached mount {} from exec", dir.id);
        let (content, size) = (cache_mount(&name), tree_size(&path));
        let record = Record::new(key(&content), RecordKind::CacheMount, description, content, size, Vec::new());
        let record = Record { created: dir.created, last_used: Some(dir.last_used), uses: dir.uses, ..record };
        (dir, path, Listed { record, in_use: used.contains(&name), shared: false })
    };
    Ok(cachedirs::all(engine.storage.store().db()).map_err(broken)?.into_iter().map(listed).collect())
}

fn cache_mount(directory: &str) -> Content {
    Content::Directory(format!("cache/{directory}"))
}

/// What the directory of a cache mount is called among all that builds keep.
pub(super) fn cache_mount_id(directory: &str) -> String {
    skep_build::cache::record_id(&key(&cache_mount(directory)))
}

/// The places of what came from elsewhere.
fn fetched(engine: &Inner) -> [(&'static str, &Slots, RecordKind, &'static str); 4] {
    [
        ("context", &engine.builds.contexts, RecordKind::Local, "local source for context"),
        ("http", &engine.builds.downloads, RecordKind::Regular, "http source"),
        ("git", &engine.builds.repositories, RecordKind::Internal, "git repository"),
        ("checkout", &engine.builds.checkouts, RecordKind::Git, "git checkout"),
    ]
}

/// Removes the places in which nothing is left.
fn remove_empty(engine: &Inner) -> Result<(), BuildError> {
    let top = engine.config.data_root.join("build");
    for (kind, slots, ..) in fetched(engine) {
        slots.remove_empty(&top.join(kind)).map_err(failed("remove an empty directory"))?;
    }
    // Without a server's key it says nothing.
    super::sources::remove_if_empty(&top.join("ssh")).map_err(failed("remove an empty directory"))?;
    engine.builds.caches.remove_empty(&top.join("cache")).map_err(failed("remove an empty directory"))
}

fn key(content: &Content) -> Digest {
    digest_of(format!("{content:?}").as_bytes())
}

fn children(dir: &Path) -> Result<Vec<PathBuf>, BuildError> {
    match std::fs::read_dir(dir) {
        Ok(entries) => {
            let paths = entries.map(|entry| entry.map(|entry| entry.path()));
            paths.collect::<std::io::Result<_>>().map_err(failed("list what builds keep"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed("list what builds keep")(error)),
    }
}

fn last_used(path: &Path) -> DateTime<Utc> {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.map_or_else(|_| Utc::now(), DateTime::from)
}

/// Removes what is picked, but nothing that a build uses; returns it.
pub(super) async fn prune(engine: &Arc<Inner>, prune: Prune) -> Result<Vec<Listed>, BuildError> {
    let inner = Arc::clone(engine);
    let gone = blocking(move || prune_now(&inner, &prune)).await?;
    engine.images.collect_unneeded().await.map_err(|error| engine_error(error.into()))?;
    Ok(gone)
}

/// What a prune would remove now.
pub(super) async fn preview(engine: &Arc<Inner>, prune: Prune) -> Result<Vec<Listed>, BuildError> {
    let engine = Arc::clone(engine);
    blocking(move || {
        let (listed, keys) = planned(&engine, &prune)?;
        let keys: BTreeSet<Digest> = keys.into_iter().collect();
        Ok(listed.into_iter().filter(|one| keys.contains(&one.record.key)).collect())
    })
    .await
}

/// All that there is, and what of it goes, in order.
fn planned(engine: &Inner, prune: &Prune) -> Result<(Vec<Listed>, Vec<Digest>), BuildError> {
    let listed = list_now(engine)?;
    let found = rustix::fs::statvfs(&engine.config.data_root);
    let free = found.map(|found| found.f_bavail.saturating_mul(found.f_frsize)).unwrap_or(u64::MAX);
    let keys = plan(&listed, prune, DiskUse { free }, Utc::now());
    Ok((listed, keys))
}

/// Takes a directory from all builds; none if one uses it.
fn leave(engine: &Inner, content: &Content, path: &Path) -> Option<Box<dyn Any>> {
    let Content::Directory(name) = content else { return None };
    let (kind, name) = name.split_once('/')?;
    let builds = &engine.builds;
    let slots = match kind {
        "cache" => return builds.caches.leave(name).map(|leaving| Box::new(leaving) as Box<dyn Any>),
        "context" => &builds.contexts,
        "http" => &builds.downloads,
        "git" => &builds.repositories,
        "checkout" => &builds.checkouts,
        _ => return None,
    };
    slots.leave(path).map(|slot| Box::new(slot) as Box<dyn Any>)
}

fn prune_now(engine: &Inner, prune: &Prune) -> Result<Vec<Listed>, BuildError> {
    let (listed, keys) = planned(engine, prune)?;
    let mut gone: BTreeSet<Digest> = engine.builds.cache.remove(&keys).into_iter().map(|record| record.key).collect();
    let wanted: BTreeSet<Digest> = keys.iter().copied().collect();
    for (path, listed) in directories(engine)? {
        if !wanted.contains(&listed.record.key) {
            continue;
        }
        // A build may have taken it since it was listed; from here on none can.
        let Some(_leaving) = leave(engine, &listed.record.content, &path) else { continue };
        if let Content::Directory(name) = &listed.record.content
            && let Some(name) = name.strip_prefix("cache/")
        {
            cachedirs::forget(engine.storage.store().db(), &name.to_owned())
                .map_err(|error| BuildError::new(ErrorKind::System, error.to_string()))?;
        }
        if path.exists() {
            engine.storage.trash(&path).map_err(store)?;
        }
        gone.insert(listed.record.key);
    }
    remove_empty(engine)?;
    let layers = engine.storage.store().layers();
    // Twice: what the first one stores is kept until the second for whoever has just made it.
    layers.flush().and_then(|()| layers.flush()).map_err(store)?;
    engine.builds.cache.commit().map_err(|error| BuildError::new(ErrorKind::System, error.to_string()))?;
    Ok(listed.into_iter().filter(|one| gone.contains(&one.record.key)).collect())
}

//! Where the compressed blob of a layer is known to exist: learned by pulls and pushes, used by pushes to send nothing that a
//! registry has already. Hints only; every one is checked before it is relied on.

use serde::{Deserialize, Serialize};
use skep_registry::Descriptor;
use skep_store::{Db, DbError, Table};
use skep_types::{Digest, Reference};

use super::Inner;
use super::catalog::Catalog;
use super::change::run_blocking;

/// Blobs of layers, by diff id.
const SOURCES: Table<Digest, Vec<LayerSource>> = Table::new("layer_sources", 1);
/// Blobs remembered for a layer, and repositories for a blob; the newest stay.
const MOST: usize = 50;

/// A blob that holds a layer, and the repositories that had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerSource {
    /// The blob.
    pub(super) digest: Digest,
    /// Its bytes.
    pub(super) size: u64,
    /// Its media type.
    pub(super) media_type: String,
    /// Newest first: `docker.io/library/busybox`.
    pub(super) repositories: Vec<String>,
}

/// Remembers that `repository` has these blobs for these layers.
pub(super) fn remember(db: &Db, repository: &Reference, layers: &[(Digest, Descriptor)]) -> Result<(), DbError> {
    let name = repository.canonical_name();
    db.write(|tx| {
        for (diff_id, blob) in layers {
            let mut sources = tx.get(&SOURCES, diff_id)?.unwrap_or_default();
            if learn(&mut sources, blob, &name) {
                tx.put(&SOURCES, diff_id, &sources)?;
            }
        }
        Ok(())
    })
}

/// As [`remember`], after a pull, which doesn't fail by it.
pub(super) async fn remember_pulled(inner: &Inner, repository: &Reference, layers: Vec<(Digest, Descriptor)>) {
    let (db, reference) = (inner.store.db().clone(), repository.clone());
    let remembered = run_blocking(move || Ok(remember(&db, &reference, &layers)?)).await;
    if let Err(error) = remembered {
        tracing::warn!(%repository, %error, "where layers came from is not remembered");
    }
}

/// What is remembered of a layer, newest first.
pub(super) fn of_layer(db: &Db, diff_id: &Digest) -> Result<Vec<LayerSource>, DbError> {
    db.read(|tx| Ok(tx.get(&SOURCES, diff_id)?.unwrap_or_default()))
}

/// Forgets layers that no image has.
pub(super) fn forget_unused(db: &Db, catalog: &Catalog) -> Result<(), DbError> {
    let known = db.read(|tx| tx.all(&SOURCES))?;
    let used: std::collections::BTreeSet<Digest> =
        catalog.images().flat_map(|(_, record)| record.diff_ids.iter().copied()).collect();
    let unused: Vec<Digest> = known.into_iter().map(|(diff_id, _)| diff_id).filter(|id| !used.contains(id)).collect();
    if unused.is_empty() {
        return Ok(());
    }
    db.write(|tx| unused.iter().try_for_each(|diff_id| tx.remove(&SOURCES, diff_id).map(drop)))
}

/// Takes note of a blob and its repository; false if that was known and is the newest.
fn learn(sources: &mut Vec<LayerSource>, blob: &Descriptor, repository: &str) -> bool {
    let before = sources.clone();
    let mut source = match sources.iter().position(|source| source.digest == blob.digest) {
        Some(at) => sources.remove(at),
        None => LayerSource {
            digest: blob.digest,
            size: blob.size,
            media_type: blob.media_type.clone(),
            repositories: Vec::new(),
        },
    };
    source.repositories.retain(|known| known != repository);
    source.repositories.insert(0, repository.to_owned());
    source.repositories.truncate(MOST);
    sources.insert(0, source);
    sources.truncate(MOST);
    *sources != before
}

#[cfg(test)]
mod tests {
    use super::super::catalog::tests::id;
    use super::*;

    fn blob(digest: &str) -> Descriptor {
        let media_type = "application/vnd.oci.image.layer.v1.tar+gzip".to_owned();
        Descriptor { media_type, digest: id(digest), size: 9, platform: None, annotations: Default::default() }
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_go() {
        let mut sources = Vec::new();
        assert!(learn(&mut sources, &blob("a"), "reg/one"));
        assert!(learn(&mut sources, &blob("b"), "reg/one"));
        assert!(learn(&mut sources, &blob("a"), "reg/two"));
        assert!(!learn(&mut sources, &blob("a"), "reg/two"));
        let seen: Vec<_> = sources.iter().map(|s| (s.digest, s.repositories.join(" "))).collect();
        assert_eq!(seen, [(id("a"), "reg/two reg/one".to_owned()), (id("b"), "reg/one".to_owned())]);
        for number in 0..2 * MOST {
            learn(&mut sources, &blob("a"), &format!("reg/{number}"));
        }
        assert_eq!(sources[0].repositories.len(), MOST);
    }
}

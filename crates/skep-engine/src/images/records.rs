//! Images and references in the metadata database.

use std::sync::Arc;

use skep_store::{Db, DbError, Table};
use skep_types::{Digest, Reference};

use super::Result;
use super::catalog::{Catalog, ImageRecord};
use super::draft::Change;
use super::target::{Target, from_version_1};

/// Images by id.
const IMAGES: Table<Digest, ImageRecord> = Table::new("images", 1);
/// What references, in full (`docker.io/library/busybox:latest`), lead to.
const REFERENCES: Table<String, Target> = Table::migrated("image_references", 2, |_, value| from_version_1(value));

/// Reads all. References that lead nowhere are reported and forgotten.
pub(super) fn load(db: &Db) -> Result<Catalog> {
    let (images, references) = db.read(|tx| Ok::<_, DbError>((tx.all(&IMAGES)?, tx.all(&REFERENCES)?)))?;
    let references = references.into_iter().filter_map(|(text, target)| match text.parse::<Reference>() {
        Ok(reference) => Some((reference, target)),
        Err(error) => {
            tracing::warn!(reference = text, %error, "a stored reference can't be read");
            None
        }
    });
    let (catalog, lost) = Catalog::new(images, references);
    for reference in lost {
        tracing::warn!(%reference, "a stored reference leads to no image");
    }
    Ok(catalog)
}

/// Stored references that lead to none of the catalog's images, or that can't be read.
pub(super) fn lost_references(db: &Db, catalog: &Catalog) -> Result<Vec<String>> {
    let references = db.read(|tx| tx.all(&REFERENCES))?;
    let leads = |text: &str, target: &Target| {
        text.parse::<Reference>().is_ok() && target.images.iter().any(|member| catalog.image(&member.id).is_some())
    };
    Ok(references.into_iter().filter(|(text, target)| !leads(text, target)).map(|(text, _)| text).collect())
}

/// Removes a lost reference.
pub(super) fn forget(db: &Db, reference: &str) -> Result<()> {
    Ok(db.write(|tx| tx.remove(&REFERENCES, &reference.to_owned()).map(drop))?)
}

/// Stores changes in one commit.
pub(super) fn store(db: &Db, changes: &[Change]) -> Result<()> {
    Ok(db.write(|tx| {
        for change in changes {
            match change {
                Change::PutImage(id, record) => tx.put(&IMAGES, id, Arc::as_ref(record))?,
                Change::RemoveImage(id) => drop(tx.remove(&IMAGES, id)?),
                Change::PutReference(reference, target) => {
                    tx.put(&REFERENCES, &reference.to_string(), Arc::as_ref(target))?
                }
                Change::RemoveReference(reference) => drop(tx.remove(&REFERENCES, &reference.to_string())?),
            }
        }
        Ok::<_, DbError>(())
    })?)
}

#[cfg(test)]
mod tests {
    use super::super::catalog::tests::{id, record};
    use super::*;

    #[test]
    fn databases_of_schema_version_1_are_read_and_written_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("meta.redb");
        let old: Table<String, Digest> = Table::new("image_references", 1);
        let name = "docker.io/library/x:1".to_owned();
        {
            let db = Db::open(&path).expect("a database");
            let stored = db.write(|tx| {
                tx.put(&IMAGES, &id("a1"), &record(&["aa"]))?;
                tx.put(&old, &name, &id("a1"))
            });
            stored.expect("stored");
        }
        let db = Db::open(&path).expect("a database");
        let catalog = load(&db).expect("a catalog");
        assert_eq!(catalog.resolve("x:1").ok(), Some(id("a1")));
        let target = catalog.target_named("x:1").expect("a target");
        store(&db, &[Change::PutReference("x:1".parse().expect("a name"), Arc::new(target))]).expect("stored");
        assert!(db.read(|tx| tx.get(&old, &name)).is_err(), "an older version says that it is too old");
        assert_eq!(load(&db).expect("a catalog").resolve("x:1").ok(), Some(id("a1")));
    }
}

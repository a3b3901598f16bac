//! Images and references in the metadata database.

use std::sync::Arc;

use skep_store::{Db, DbError, Table};
use skep_types::{Digest, Reference};

use super::Result;
use super::catalog::{Catalog, Change, ImageRecord};
use crate::model::image::ImageId;

/// Images by id.
const IMAGES: Table<Digest, ImageRecord> = Table::new("images", 1);
/// Image ids by reference, in full (`docker.io/library/busybox:latest`).
const REFERENCES: Table<String, ImageId> = Table::new("image_references", 1);

/// Reads all. References that lead nowhere are reported and forgotten.
pub(super) fn load(db: &Db) -> Result<Catalog> {
    let (images, references) = db.read(|tx| Ok::<_, DbError>((tx.all(&IMAGES)?, tx.all(&REFERENCES)?)))?;
    let references = references.into_iter().filter_map(|(text, id)| match text.parse::<Reference>() {
        Ok(reference) => Some((reference, id)),
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

/// Stores changes in one commit.
pub(super) fn store(db: &Db, changes: &[Change]) -> Result<()> {
    Ok(db.write(|tx| {
        for change in changes {
            match change {
                Change::PutImage(id, record) => tx.put(&IMAGES, id, Arc::as_ref(record))?,
                Change::RemoveImage(id) => drop(tx.remove(&IMAGES, id)?),
                Change::PutReference(reference, id) => tx.put(&REFERENCES, &reference.to_string(), id)?,
                Change::RemoveReference(reference) => drop(tx.remove(&REFERENCES, &reference.to_string())?),
            }
        }
        Ok::<_, DbError>(())
    })?)
}

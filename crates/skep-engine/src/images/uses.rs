//! When images were last used, for the choice of what goes first when the disk is full.
//!
//! A use costs the path to a running container nothing: times are kept in memory and stored now and then, and at the end. A crash
//! loses the last few minutes of them, which only makes an image look a little less used than it is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use skep_store::{Db, DbError, Table};
use skep_types::Digest;

use super::catalog::Catalog;
use crate::model::image::ImageId;

const USES: Table<Digest, DateTime<Utc>> = Table::new("image_uses", 1);

/// The times, by image.
#[derive(Debug, Default)]
pub(super) struct Uses {
    times: Mutex<BTreeMap<ImageId, DateTime<Utc>>>,
    changed: AtomicBool,
}

impl Uses {
    pub(super) fn load(db: &Db) -> Result<Self, DbError> {
        let times = db.read(|tx| tx.all(&USES))?.into_iter().collect();
        Ok(Uses { times: Mutex::new(times), changed: AtomicBool::new(false) })
    }

    /// The image is used now.
    pub(super) fn touch(&self, id: ImageId) {
        self.times.lock().insert(id, Utc::now());
        self.changed.store(true, Ordering::Relaxed);
    }

    /// When it was last used. An image that nothing is known of counts as used when it is first asked for.
    pub(super) fn last(&self, id: &ImageId) -> DateTime<Utc> {
        let mut times = self.times.lock();
        if let Some(time) = times.get(id) {
            return *time;
        }
        let now = Utc::now();
        times.insert(*id, now);
        self.changed.store(true, Ordering::Relaxed);
        now
    }

    /// Stores what has changed, and forgets images that are gone.
    pub(super) fn store(&self, db: &Db, catalog: &Catalog) -> Result<(), DbError> {
        let mut times = self.times.lock();
        let gone: Vec<ImageId> = times.keys().filter(|id| catalog.any_image(id).is_none()).copied().collect();
        times.retain(|id, _| !gone.contains(id));
        if !self.changed.swap(false, Ordering::Relaxed) && gone.is_empty() {
            return Ok(());
        }
        let now = times.clone();
        drop(times);
        let stored = db.write(|tx| {
            for (id, old) in tx.all(&USES)? {
                if now.get(&id) != Some(&old) {
                    tx.remove(&USES, &id)?;
                }
            }
            now.iter().try_for_each(|(id, time)| tx.put(&USES, id, time))
        });
        if stored.is_err() {
            self.changed.store(true, Ordering::Relaxed);
        }
        stored
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::tests::{catalog, id};
    use super::*;

    #[test]
    fn times_are_stored_for_images_that_are_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = Db::open(&dir.path().join("db")).expect("a database");
        let uses = Uses::load(&db).expect("times");
        uses.touch(id("aa"));
        let (first, second) = (uses.last(&id("aa")), uses.last(&id("bb")));
        assert!(first <= second && uses.last(&id("bb")) == second, "the first look counts as a use");
        uses.store(&db, &catalog(&[("aa", &["x"])])).expect("stored");
        let again = Uses::load(&db).expect("times");
        assert_eq!(*again.times.lock(), BTreeMap::from([(id("aa"), first)]));
        uses.store(&db, &Catalog::default()).expect("stored");
        assert!(Uses::load(&db).expect("times").times.lock().is_empty());
    }
}

//! What was made before: results by key.
//!
//! All records are in memory; changes are collected and stored by [`Cache::save`], in one transaction with whatever else the caller
//! stores at the end of a build. Layers have to be durable before that. A crash loses what was not saved, which then is made again.
//!
//! A record is only as good as its layer: the solver takes it for a hit if the worker still has the layer. The layers of all
//! records, also of those not saved yet, are roots of the garbage collection ([`Cache::roots`]).
//!
//! Beside the records are the digests of parts of trees that never change (a layer's directory, a commit's file), so that a build
//! whose results are known needs no file of an image.

mod prune;
mod record;
mod transfer;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use skep_store::{ChainId, Db, DbError, Table, WriteTx};
use skep_types::Digest;

pub use prune::{DiskUse, Filter, FilterError, Limits, Listed, Prune, plan};
pub use record::{Content, Record, RecordKind, record_id};
pub use transfer::{ConfiguredResult, read_config, write_config};
pub(crate) use transfer::{Elsewhere, FIELD, read};

const RECORDS: Table<Digest, Record> = Table::new("build_records", 1);
const SELECTIONS: Table<Digest, Selected> = Table::new("build_selections", 1);

/// How many digests of parts of trees are kept; those not used for longest go first.
const MAX_SELECTIONS: usize = 20_000;

/// The digest of a part of a tree.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Selected {
    digest: Digest,
    used: DateTime<Utc>,
}

/// The cache of a data root; clones share it.
#[derive(Debug, Clone)]
pub struct Cache {
    db: Db,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    records: BTreeMap<Digest, Record>,
    selections: HashMap<Digest, Selected>,
    /// Keys of records to be stored, or to be removed if there is no such record any more.
    changed: BTreeSet<Digest>,
    changed_selections: BTreeSet<Digest>,
    /// How often a running build uses a record.
    used: HashMap<Digest, usize>,
}

/// A record in use by a build. It is not pruned as long as this lives.
#[derive(Debug)]
pub struct InUse {
    key: Digest,
    known: Arc<Mutex<Known>>,
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut known = self.known.lock();
        if let Some(count) = known.used.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                known.used.remove(&self.key);
            }
        }
    }
}

impl Cache {
    /// Reads what is stored.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn open(db: Db) -> Result<Self, DbError> {
        let known = db.read(|tx| {
            let records = tx.all(&RECORDS)?.into_iter().collect();
            let selections = tx.all(&SELECTIONS)?.into_iter().collect();
            Ok::<_, DbError>(Known { records, selections, ..Known::default() })
        })?;
        Ok(Cache { db, known: Arc::new(Mutex::new(known)) })
    }

    /// The record of a key.
    pub fn get(&self, key: &Digest) -> Option<Record> {
        self.known.lock().records.get(key).cloned()
    }

    /// Adds a record, or replaces the one of the same key.
    pub fn put(&self, record: Record) {
        let mut known = self.known.lock();
        known.changed.insert(record.key);
        known.records.insert(record.key, record);
    }

    /// A record was of use. It is not pruned as long as the result lives.
    pub fn touch(&self, key: &Digest) -> InUse {
        let mut known = self.known.lock();
        if let Some(record) = known.records.get_mut(key) {
            record.last_used = Some(Utc::now());
            record.uses += 1;
            known.changed.insert(*key);
        }
        *known.used.entry(*key).or_default() += 1;
        InUse { key: *key, known: Arc::clone(&self.known) }
    }

    /// Keeps a record from being pruned, without counting it as a use.
    pub fn hold(&self, key: &Digest) -> InUse {
        *self.known.lock().used.entry(*key).or_default() += 1;
        InUse { key: *key, known: Arc::clone(&self.known) }
    }

    /// Forgets records; those in use stay. Returns what was forgotten: its layers and directories may be deleted if nothing else
    /// needs them.
    pub fn remove(&self, keys: &[Digest]) -> Vec<Record> {
        let mut known = self.known.lock();
        let mut gone = Vec::new();
        for key in keys {
            if known.used.contains_key(key) {
                continue;
            }
            if let Some(record) = known.records.remove(key) {
                known.changed.insert(*key);
                gone.push(record);
            }
        }
        gone
    }

    /// Removes what a prune picks, and returns it. What came into use meanwhile stays.
    pub fn prune(&self, prune: &Prune, disk: DiskUse, shared: impl Fn(&ChainId) -> bool) -> Vec<Record> {
        self.remove(&plan(&self.list(shared), prune, disk, Utc::now()))
    }

    /// All records, with whether they are in use. `shared` says whether a layer is part of an image too.
    pub fn list(&self, shared: impl Fn(&ChainId) -> bool) -> Vec<Listed> {
        let known = self.known.lock();
        let list = known.records.values().map(|record| Listed {
            in_use: known.used.contains_key(&record.key),
            shared: matches!(&record.content, Content::Layer { stack, .. } if shared(stack)),
            record: record.clone(),
        });
        list.collect()
    }

    /// The stacks of layers that records need.
    pub fn roots(&self) -> BTreeSet<ChainId> {
        let known = self.known.lock();
        let stacks = known.records.values().filter_map(|record| match &record.content {
            Content::Layer { stack, .. } => Some(*stack),
            Content::Directory(_) => None,
        });
        stacks.collect()
    }

    /// The digest of a part of a tree that never changes, if it was asked for before.
    pub(crate) fn selection(&self, key: &Digest) -> Option<Digest> {
        let mut known = self.known.lock();
        let found = known.selections.get_mut(key)?;
        let (now, digest) = (Utc::now(), found.digest);
        // Exact to a day is enough, and spares most builds the writing.
        if now - found.used > chrono::TimeDelta::days(1) {
            found.used = now;
            known.changed_selections.insert(*key);
        }
        Some(digest)
    }

    pub(crate) fn put_selection(&self, key: Digest, digest: Digest) {
        let mut known = self.known.lock();
        known.selections.insert(key, Selected { digest, used: Utc::now() });
        known.changed_selections.insert(key);
        if known.selections.len() > MAX_SELECTIONS {
            let mut ages: Vec<_> = known.selections.iter().map(|(key, selected)| (selected.used, *key)).collect();
            ages.sort_unstable();
            for (_, key) in ages.into_iter().take(MAX_SELECTIONS / 4) {
                known.selections.remove(&key);
                known.changed_selections.insert(key);
            }
        }
    }

    /// Stores, as part of a transaction, all that changed since the last time. Layers have to be durable before it is committed. If
    /// the transaction fails, call [`Cache::again`] with what this returned.
    ///
    /// # Errors
    /// The database can't be written.
    pub fn save(&self, tx: &WriteTx) -> Result<Unsaved, DbError> {
        let mut known = self.known.lock();
        for key in &known.changed {
            match known.records.get(key) {
                Some(record) => tx.put(&RECORDS, key, record)?,
                None => drop(tx.remove(&RECORDS, key)?),
            }
        }
        for key in &known.changed_selections {
            match known.selections.get(key) {
                Some(selected) => tx.put(&SELECTIONS, key, selected)?,
                None => drop(tx.remove(&SELECTIONS, key)?),
            }
        }
        let records = std::mem::take(&mut known.changed);
        Ok(Unsaved { records, selections: std::mem::take(&mut known.changed_selections) })
    }

    /// What [`Cache::save`] stored was not committed: it is stored the next time.
    pub fn again(&self, unsaved: Unsaved) {
        let mut known = self.known.lock();
        known.changed.extend(unsaved.records);
        known.changed_selections.extend(unsaved.selections);
    }

    /// Whether there is anything to store.
    pub fn has_changed(&self) -> bool {
        let known = self.known.lock();
        !known.changed.is_empty() || !known.changed_selections.is_empty()
    }

    /// Stores what changed, in a transaction of its own. Blocks.
    ///
    /// # Errors
    /// The database can't be written; it is tried again the next time.
    pub fn commit(&self) -> Result<(), DbError> {
        if !self.has_changed() {
            return Ok(());
        }
        let mut unsaved = Unsaved::default();
        let done = self.db.write(|tx| {
            unsaved = self.save(tx)?;
            Ok(())
        });
        if done.is_err() {
            self.again(unsaved);
        }
        done
    }
}

/// What was stored by a transaction that is not committed yet.
#[derive(Debug, Default)]
pub struct Unsaved {
    records: BTreeSet<Digest>,
    selections: BTreeSet<Digest>,
}

#[cfg(test)]
mod tests;

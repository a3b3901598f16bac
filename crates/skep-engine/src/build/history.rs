//! The history of builds: what was asked for, how it ended, its log, and statements about what it made. It outlives the daemon.
//!
//! ```text
//! build_history            a record for each build that has ended, in the database
//! D/build/history/HEX/     its files; HEX is the digest of the build's name, which its client made
//!     log                  what was told while it went on
//!     HEX                  attachments by their digest
//! ```
//! The files are there before the record; files without one are left of a crash, and go at the start.

use std::collections::BTreeMap;
use std::io::ErrorKind as IoKind;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use skep_build::BuildError;
use skep_fs::atomic::write_file;
use skep_registry::digest_of;
use skep_store::{DbError, Table};
use skep_types::{Digest, ErrorKind};

use super::error::{blocking, failed, store};
use crate::engine::Inner;

const HISTORY: Table<String, BuildRecord> = Table::new("build_history", 1);

/// Records that stay however old they are, and how long others stay, as in BuildKit; pinned ones stay in any case.
const KEPT: usize = 50;
const AGE: TimeDelta = TimeDelta::hours(48);
/// More are not kept, however young.
const MOST: usize = 1000;

/// A build that has ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BuildRecord {
    /// Its name.
    pub id: String,
    /// What read the Dockerfile.
    pub frontend: String,
    /// What it was told.
    pub attributes: BTreeMap<String, String>,
    /// Exporters with their options.
    pub exporters: Vec<(String, BTreeMap<String, String>)>,
    /// When it began.
    pub created: DateTime<Utc>,
    /// When it ended.
    pub completed: DateTime<Utc>,
    /// Why it failed: code and text.
    pub error: Option<(i32, String)>,
    /// What the client was answered.
    pub response: BTreeMap<String, String>,
    /// How often the record was changed.
    pub generation: i32,
    /// Whether it stays.
    pub pinned: bool,
    /// Steps that there were, that were ended, that were known.
    pub steps: (u32, u32, u32),
    /// Warnings that were told.
    pub warnings: u32,
    /// The log.
    pub log: Option<RecordFile>,
    /// The failure with all that is known of it.
    pub failure: Option<RecordFile>,
    /// Statements about the result.
    pub attestations: Vec<RecordFile>,
    /// The index or the manifest of the result. Those that it names are kept, too.
    #[serde(default)]
    pub result: Option<RecordFile>,
}

/// A file of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordFile {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Option<Digest>,
    /// Bytes.
    pub size: u64,
    /// What else there is to say.
    pub annotations: BTreeMap<String, String>,
}

impl RecordFile {
    /// A file with this content.
    pub fn of(media_type: &str, content: &[u8], annotations: BTreeMap<String, String>) -> Self {
        let media_type = media_type.to_owned();
        RecordFile { media_type, digest: Some(digest_of(content)), size: content.len() as u64, annotations }
    }
}

fn broken(error: DbError) -> BuildError {
    BuildError::new(ErrorKind::System, error.to_string())
}

fn directory(engine: &Inner, id: &str) -> PathBuf {
    engine.config.data_root.join("build/history").join(digest_of(id.as_bytes()).hex())
}

/// All records, the oldest first. Blocking.
pub(crate) fn all(engine: &Inner) -> Result<Vec<BuildRecord>, BuildError> {
    let found = engine.storage.store().db().read(|tx| tx.all(&HISTORY)).map_err(broken)?;
    let mut records: Vec<BuildRecord> = found.into_iter().map(|(_, record)| record).collect();
    records.sort_by_key(|record| record.created);
    Ok(records)
}

/// Keeps a record with its files. Old records go. Returns the names of those.
pub(crate) async fn put(
    engine: &Arc<Inner>,
    record: BuildRecord,
    files: Vec<Vec<u8>>,
) -> Result<Vec<String>, BuildError> {
    let engine = Arc::clone(engine);
    blocking(move || {
        let directory = directory(&engine, &record.id);
        if !files.is_empty() {
            crate::storage::make_dir(&directory, 0o700).map_err(super::error::engine)?;
        }
        for content in &files {
            let path = directory.join(digest_of(content).hex());
            write_file(&path, content, 0o600).map_err(failed("keep the history of a build"))?;
        }
        let db = engine.storage.store().db();
        db.write(|tx| tx.put(&HISTORY, &record.id, &record)).map_err(broken)?;
        let gone = outdated(&all(&engine)?, Utc::now());
        gone.iter().try_for_each(|id| forget(&engine, id))?;
        Ok(gone)
    })
    .await
}

/// Forgets a build.
pub(crate) async fn remove(engine: &Arc<Inner>, id: String) -> Result<(), BuildError> {
    let engine = Arc::clone(engine);
    blocking(move || forget(&engine, &id)).await
}

fn forget(engine: &Inner, id: &str) -> Result<(), BuildError> {
    engine.storage.store().db().write(|tx| tx.remove(&HISTORY, &id.to_owned()).map(drop)).map_err(broken)?;
    let directory = directory(engine, id);
    match directory.exists() {
        true => engine.storage.trash(&directory).map_err(store),
        false => Ok(()),
    }
}

/// A file of any build; none if no build has it.
pub(crate) async fn file(engine: &Arc<Inner>, digest: Digest) -> Result<Option<Vec<u8>>, BuildError> {
    let engine = Arc::clone(engine);
    blocking(move || {
        for record in all(&engine)? {
            match std::fs::read(directory(&engine, &record.id).join(digest.hex())) {
                Ok(content) => return Ok(Some(content)),
                Err(error) if error.kind() == IoKind::NotFound => {}
                Err(error) => return Err(failed("read the history of a build")(error)),
            }
        }
        Ok(None)
    })
    .await
}

/// Removes files that no record names. Blocking.
pub(crate) fn sweep(engine: &Inner) {
    let swept = || -> Result<(), BuildError> {
        let known: Vec<PathBuf> = all(engine)?.iter().map(|record| directory(engine, &record.id)).collect();
        let Ok(entries) = std::fs::read_dir(engine.config.data_root.join("build/history")) else { return Ok(()) };
        let strays = entries.flatten().map(|entry| entry.path()).filter(|path| !known.contains(path));
        strays.into_iter().try_for_each(|path| engine.storage.trash(&path).map_err(store))
    };
    if let Err(error) = swept() {
        tracing::warn!(%error, "what an earlier daemon left of the history of builds stays");
    }
}

/// The builds that are both old and too many, the oldest first.
fn outdated(records: &[BuildRecord], now: DateTime<Utc>) -> Vec<String> {
    let candidates: Vec<&BuildRecord> = records.iter().filter(|record| !record.pinned).collect();
    let beyond = |kept: usize| candidates.len().saturating_sub(kept);
    let old = candidates.iter().take(beyond(KEPT)).filter(|record| now - record.completed > AGE).count();
    candidates.iter().take(old.max(beyond(MOST))).map(|record| record.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_is_old_and_one_of_many() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(100);
        let record = |number: usize, hours: i64| {
            let completed = now - TimeDelta::hours(hours);
            BuildRecord { id: number.to_string(), created: completed, completed, ..BuildRecord::default() }
        };
        let few: Vec<_> = (0..KEPT).map(|number| record(number, 1000)).collect();
        assert!(outdated(&few, now).is_empty());
        let mut many: Vec<_> = (0..KEPT + 3).map(|number| record(number, 1000 - number as i64)).collect();
        assert_eq!(outdated(&many, now), ["0", "1", "2"]);
        many[1].pinned = true;
        assert_eq!(outdated(&many, now), ["0", "2"]);
        let young: Vec<_> = (0..MOST + 1).map(|number| record(number, 1)).collect();
        assert_eq!(outdated(&young, now), ["0"]);
    }
}

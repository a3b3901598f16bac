//! The metadata database: typed tables of JSON values in one redb file.
//!
//! A table is a constant ([`Table::new`]) with its own name and schema version. Each value is stored with the version it
//! was written under, so that a later version reads what an earlier one left ([`Table::migrated`]). A write transaction is
//! one durable commit: collect all that one user action changes into one [`Db::write`].
//!
//! Measured on ext4 by the ignored test `measure_commits`, unoptimised and on a busy machine: a commit of one 1 KiB value
//! takes 2.4 ms (median).

mod compact;
mod opened;

use std::borrow::Cow;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use skep_types::{ContainerId, Digest, ErrorKind, ExecId, NetworkId};

use crate::chain::ChainId;
use crate::crash::crash_point;
use opened::open_file;

/// Memory that redb may keep pages in.
const CACHE_BYTES: usize = 1 << 20;

/// Why the database could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Another process has it open.
    #[error("the database {} is in use: another skep daemon is running with this data root", .0.display())]
    InUse(PathBuf),
    /// Its content makes no sense.
    #[error(
        "the database {} is damaged ({reason}). Stop the daemon, put back a copy of the file, or move the file away and start anew; images then have to be pulled again", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// It was written by a newer version.
    #[error("table {table} was written by a newer version of skep (schema {found}, this one knows {known})")]
    Newer {
        /// The table.
        table: &'static str,
        /// The schema version found.
        found: u32,
        /// The schema version of this program.
        known: u32,
    },
    /// A value that doesn't fit its type.
    #[error("table {table}: value of {key:?} can't be read: {reason}")]
    Value {
        /// The table.
        table: &'static str,
        /// The key, as far as it is text.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// Reading or writing the file failed (a full disk, for one).
    #[error("database {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The failure.
        source: std::io::Error,
    },
}

impl DbError {
    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            DbError::InUse(_) => ErrorKind::Conflict,
            DbError::Damaged { .. } | DbError::Value { .. } => ErrorKind::DataLoss,
            DbError::Newer { .. } => ErrorKind::NotImplemented,
            DbError::Io { source, .. } => crate::error::io_kind(source),
        }
    }
}

/// A type that can be a key. Keys are ordered by their bytes.
pub trait Key: Sized {
    /// The key as bytes.
    fn encode(&self) -> Cow<'_, [u8]>;
    /// The key of these bytes, `None` if they are none.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

impl Key for String {
    fn encode(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.as_bytes())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

impl Key for Vec<u8> {
    fn encode(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl Key for Digest {
    fn encode(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.as_bytes())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Digest::from_bytes)
    }
}

macro_rules! text_key {
    ($($name:ty),+) => {$(
        impl Key for $name {
            fn encode(&self) -> Cow<'_, [u8]> {
                Cow::Owned(self.to_string().into_bytes())
            }

            fn decode(bytes: &[u8]) -> Option<Self> {
                std::str::from_utf8(bytes).ok()?.parse().ok()
            }
        }
    )+};
}

text_key!(ContainerId, ExecId, NetworkId, ChainId, skep_types::VolumeName, skep_types::ContainerName);

/// How a value of an older schema version becomes one of the present version.
type Migration = fn(u32, serde_json::Value) -> Result<serde_json::Value, String>;

/// A table: a name, a key type, a value type and the version of the value's schema. Make it a constant.
#[derive(Debug)]
pub struct Table<K, V> {
    name: &'static str,
    version: u32,
    migrate: Option<Migration>,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Key, V: Serialize + DeserializeOwned> Table<K, V> {
    /// A table of that name whose values have schema `version`.
    pub const fn new(name: &'static str, version: u32) -> Self {
        Table { name, version, migrate: None, types: PhantomData }
    }

    /// The same, with values of older versions changed by `migrate` as they are read.
    pub const fn migrated(name: &'static str, version: u32, migrate: Migration) -> Self {
        Table { name, version, migrate: Some(migrate), types: PhantomData }
    }

    fn definition(&self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.name)
    }

    fn encode(&self, key: &K, value: &V) -> Result<Vec<u8>, DbError> {
        serde_json::to_vec(&(self.version, value)).map_err(|error| self.bad_value(&key.encode(), error))
    }

    fn decode(&self, key: &[u8], bytes: &[u8]) -> Result<V, DbError> {
        let bad = |error: serde_json::Error| self.bad_value(key, error);
        let (version, value): (u32, &RawValue) = serde_json::from_slice(bytes).map_err(bad)?;
        if version > self.version {
            return Err(DbError::Newer { table: self.name, found: version, known: self.version });
        }
        match self.migrate.filter(|_| version < self.version) {
            None => serde_json::from_str(value.get()).map_err(bad),
            Some(migrate) => {
                let old = serde_json::from_str(value.get()).map_err(bad)?;
                let new = migrate(version, old).map_err(|reason| self.bad_value(key, reason))?;
                serde_json::from_value(new).map_err(bad)
            }
        }
    }

    fn bad_value(&self, key: &[u8], reason: impl ToString) -> DbError {
        let key = String::from_utf8_lossy(key).into_owned();
        DbError::Value { table: self.name, key, reason: reason.to_string() }
    }
}

/// The opened database; clones share it.
#[derive(Debug, Clone)]
pub struct Db {
    shared: Arc<Shared>,
    made: bool,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Transactions share it, compaction has it alone. None only if it could not be opened again after a failed write.
    redb: RwLock<Option<redb::Database>>,
    /// A write failed: redb refuses all work until the file is opened anew.
    failed: AtomicBool,
    /// Something was written since the last look at whether compaction is worth it.
    changed: AtomicBool,
    /// Bytes from the file's beginning that surely have blocks.
    reserved: AtomicU64,
}

impl Db {
    /// Opens or makes the database at `path` and locks it.
    pub fn open(path: &Path) -> Result<Self, DbError> {
        let made = std::fs::metadata(path).map_or(true, |found| found.len() == 0);
        let opened = open_file(path)?;
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(|source| DbError::Io { path: path.to_owned(), source })?;
        // What an earlier daemon left may be worth compacting.
        let shared = Shared {
            path: path.to_owned(),
            redb: RwLock::new(Some(opened)),
            failed: AtomicBool::new(false),
            changed: AtomicBool::new(true),
            reserved: AtomicU64::new(0),
        };
        shared.reserve();
        Ok(Db { shared: Arc::new(shared), made })
    }

    /// Whether there was no database before this one was opened.
    pub fn is_new(&self) -> bool {
        self.made
    }

    /// Reads a consistent state, which later writes don't disturb.
    pub fn read<T, E: From<DbError>>(&self, body: impl FnOnce(&ReadTx) -> Result<T, E>) -> Result<T, E> {
        let redb = self.opened()?;
        guard(&self.shared.path, || {
            let transaction = redb.begin_read().map_err(|error| self.shared.failure(error))?;
            body(&ReadTx { transaction, shared: Arc::clone(&self.shared) })
        })
    }

    /// Makes all changes of `body` durable in one commit, or none if it fails. Writers wait for each other.
    pub fn write<T, E: From<DbError>>(&self, body: impl FnOnce(&WriteTx) -> Result<T, E>) -> Result<T, E> {
        let redb = self.opened()?;
        guard(&self.shared.path, || {
            let transaction = redb.begin_write().map_err(|error| self.shared.failure(error))?;
            let open = WriteTx { transaction, shared: Arc::clone(&self.shared) };
            let result = body(&open)?;
            crash_point("db-commit");
            open.transaction.commit().map_err(|error| self.shared.failure(error))?;
            crash_point("db-committed");
            self.shared.changed.store(true, Ordering::Relaxed);
            self.shared.reserve();
            Ok(result)
        })
    }
}

/// A view of the database.
pub struct ReadTx {
    transaction: redb::ReadTransaction,
    shared: Arc<Shared>,
}

impl ReadTx {
    /// The value of `key`.
    pub fn get<K: Key, V: Serialize + DeserializeOwned>(
        &self,
        table: &Table<K, V>,
        key: &K,
    ) -> Result<Option<V>, DbError> {
        match self.open(table)? {
            Some(open) => fetch(&open, table, key, &self.shared),
            None => Ok(None),
        }
    }

    /// All keys and values, in the order of the keys' bytes.
    pub fn all<K: Key, V: Serialize + DeserializeOwned>(&self, table: &Table<K, V>) -> Result<Vec<(K, V)>, DbError> {
        match self.open(table)? {
            Some(open) => fetch_all(&open, table, &self.shared),
            None => Ok(Vec::new()),
        }
    }

    /// Keys and values from `from` on, in the order of the keys' bytes, as long as `take` says yes to the key.
    pub fn scan<K: Key, V: Serialize + DeserializeOwned>(
        &self,
        table: &Table<K, V>,
        from: &K,
        take: impl FnMut(&K) -> bool,
    ) -> Result<Vec<(K, V)>, DbError> {
        match self.open(table)? {
            Some(open) => fetch_from(&open, table, from, take, &self.shared),
            None => Ok(Vec::new()),
        }
    }

    fn open<K: Key, V: Serialize + DeserializeOwned>(&self, table: &Table<K, V>) -> Result<Option<OpenTable>, DbError> {
        match self.transaction.open_table(table.definition()) {
            Ok(open) => Ok(Some(open)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(self.shared.failure(error)),
        }
    }
}

type OpenTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A set of changes that will be committed together. Reads see them already.
pub struct WriteTx {
    transaction: redb::WriteTransaction,
    shared: Arc<Shared>,
}

impl WriteTx {
    /// The value of `key`.
    pub fn get<K: Key, V: Serialize + DeserializeOwned>(
        &self,
        table: &Table<K, V>,
        key: &K,
    ) -> Result<Option<V>, DbError> {
        fetch(&self.open(table)?, table, key, &self.shared)
    }

    /// All keys and values, in the order of the keys' bytes.
    pub fn all<K: Key, V: Serialize + DeserializeOwned>(&self, table: &Table<K, V>) -> Result<Vec<(K, V)>, DbError> {
        fetch_all(&self.open(table)?, table, &self.shared)
    }

    /// Keys and values from `from` on, in the order of the keys' bytes, as long as `take` says yes to the key.
    pub fn scan<K: Key, V: Serialize + DeserializeOwned>(
        &self,
        table: &Table<K, V>,
        from: &K,
        take: impl FnMut(&K) -> bool,
    ) -> Result<Vec<(K, V)>, DbError> {
        fetch_from(&self.open(table)?, table, from, take, &self.shared)
    }

    /// Sets the value of `key`.
    pub fn put<K: Key, V: Serialize + DeserializeOwned>(
        &self,
        table: &Table<K, V>,
        key: &K,
        value: &V,
    ) -> Result<(), DbError> {
        let bytes = table.encode(key, value)?;
        self.open(table)?.insert(&*key.encode(), bytes.as_slice()).map_err(|error| self.shared.failure(error))?;
        Ok(())
    }

    /// Removes `key`; tells whether it was there.
    pub fn remove<K: Key, V: Serialize + DeserializeOwned>(
        &self,
        table: &Table<K, V>,
        key: &K,
    ) -> Result<bool, DbError> {
        let mut open = self.open(table)?;
        let removed = open.remove(&*key.encode()).map_err(|error| self.shared.failure(error))?;
        Ok(removed.is_some())
    }

    fn open<K: Key, V: Serialize + DeserializeOwned>(
        &self,
        table: &Table<K, V>,
    ) -> Result<redb::Table<'_, &'static [u8], &'static [u8]>, DbError> {
        self.transaction.open_table(table.definition()).map_err(|error| self.shared.failure(error))
    }
}

fn fetch<K: Key, V: Serialize + DeserializeOwned>(
    open: &impl ReadableTable<&'static [u8], &'static [u8]>,
    table: &Table<K, V>,
    key: &K,
    shared: &Shared,
) -> Result<Option<V>, DbError> {
    let key = key.encode();
    let found = open.get(&*key).map_err(|error| shared.failure(error))?;
    found.map(|value| table.decode(&key, value.value())).transpose()
}

fn fetch_all<K: Key, V: Serialize + DeserializeOwned>(
    open: &impl ReadableTable<&'static [u8], &'static [u8]>,
    table: &Table<K, V>,
    shared: &Shared,
) -> Result<Vec<(K, V)>, DbError> {
    let mut all = Vec::new();
    for pair in open.iter().map_err(|error| shared.failure(error))? {
        let (key, value) = pair.map_err(|error| shared.failure(error))?;
        let decoded = K::decode(key.value()).ok_or_else(|| table.bad_value(key.value(), "not a key of this table"))?;
        all.push((decoded, table.decode(key.value(), value.value())?));
    }
    Ok(all)
}

fn fetch_from<K: Key, V: Serialize + DeserializeOwned>(
    open: &impl ReadableTable<&'static [u8], &'static [u8]>,
    table: &Table<K, V>,
    from: &K,
    mut take: impl FnMut(&K) -> bool,
    shared: &Shared,
) -> Result<Vec<(K, V)>, DbError> {
    let mut found = Vec::new();
    let from = from.encode();
    for pair in open.range::<&[u8]>(&*from..).map_err(|error| shared.failure(error))? {
        let (key, value) = pair.map_err(|error| shared.failure(error))?;
        let decoded = K::decode(key.value()).ok_or_else(|| table.bad_value(key.value(), "not a key of this table"))?;
        if !take(&decoded) {
            break;
        }
        found.push((decoded, table.decode(key.value(), value.value())?));
    }
    Ok(found)
}

fn classify(path: &Path, error: redb::Error) -> DbError {
    let path = path.to_owned();
    match error {
        redb::Error::Io(source) if !cut_short(&source) => DbError::Io { path, source },
        redb::Error::PreviousIo => {
            let source = std::io::Error::other("an earlier write failed");
            DbError::Io { path, source }
        }
        other => DbError::Damaged { path, reason: other.to_string() },
    }
}

/// The file ends where it should go on, or says what makes no sense.
fn cut_short(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}

/// redb asserts in places that a file is whole: a panic in it means damage. The caller's own panics pass through here
/// too, they are rarer than damage and the message names them.
fn guard<T, E: From<DbError>>(path: &Path, body: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let reason = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let reason = reason.unwrap_or_else(|| "it could not be read".to_owned());
        Err(DbError::Damaged { path: path.to_owned(), reason }.into())
    })
}

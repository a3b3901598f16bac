//! The metadata: tables of the database, their records and keys.
//!
//! Keys are texts of parts with a NUL between them, which no part contains; so all rows of a repository lie together.

use chrono::Utc;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skep_store::{DbError, ReadTx, Table, WriteTx};

use crate::digest::ContentDigest;
use crate::name::{RepositoryName, Tag};

/// Milliseconds since 1970.
pub(crate) type Moment = i64;

pub(crate) fn now() -> Moment {
    Utc::now().timestamp_millis()
}

/// `REPOSITORY`.
pub(crate) const REPOSITORIES: Table<String, RepositoryRecord> = Table::new("registry_repositories", 1);
/// `DIGEST`: what the storage has.
pub(crate) const CONTENT: Table<String, ContentRecord> = Table::new("registry_content", 1);
/// `REPOSITORY DIGEST`: blobs that can be seen in a repository.
pub(crate) const LINKS: Table<String, LinkRecord> = Table::new("registry_links", 1);
/// `DIGEST REPOSITORY`: who needs content, be it a blob or a manifest there.
pub(crate) const HOLDERS: Table<String, ()> = Table::new("registry_holders", 1);
/// `REPOSITORY DIGEST`.
pub(crate) const MANIFESTS: Table<String, ManifestRecord> = Table::new("registry_manifests", 1);
/// `REPOSITORY tag TAG`, where `tag` is TAG in lower case: the order that the specification wants tags listed in.
pub(crate) const TAGS: Table<String, TagRecord> = Table::new("registry_tags", 1);
/// `REPOSITORY SUBJECT DIGEST`.
pub(crate) const REFERRERS: Table<String, ReferrerRecord> = Table::new("registry_referrers", 1);

/// A repository exists from its first content to its last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RepositoryRecord {
    pub(crate) created: Moment,
    /// Counts changes of manifests and tags, so that who worked on a snapshot sees that it is old.
    pub(crate) generation: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContentRecord {
    pub(crate) size: u64,
    pub(crate) since: Moment,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LinkRecord {
    pub(crate) size: u64,
    /// When it came or was last counted on.
    pub(crate) touched: Moment,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ManifestRecord {
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) pushed: Moment,
    /// When it was pushed, or lost a tag.
    pub(crate) touched: Moment,
    /// A tag or another manifest leads or once led here: when nothing does any more, it is garbage. A manifest that was only
    /// ever pushed by its digest has nobody to lose, and stays.
    pub(crate) claimed: bool,
    pub(crate) subject: Option<ContentDigest>,
    pub(crate) artifact_type: Option<String>,
    pub(crate) children: Vec<ContentDigest>,
    pub(crate) blobs: Vec<ContentDigest>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TagRecord {
    pub(crate) digest: ContentDigest,
    pub(crate) updated: Moment,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReferrerRecord {
    pub(crate) descriptor: crate::manifest::Descriptor,
}

/// `REPOSITORY DIGEST`.
pub(crate) fn key(repository: &RepositoryName, digest: &ContentDigest) -> String {
    format!("{repository}\0{digest}")
}

/// `DIGEST REPOSITORY`.
pub(crate) fn holder(digest: &ContentDigest, repository: &RepositoryName) -> String {
    format!("{digest}\0{repository}")
}

/// `REPOSITORY tag TAG`.
pub(crate) fn tag_key(repository: &RepositoryName, tag: &Tag) -> String {
    format!("{repository}\0{}", tag_order(tag))
}

/// Where a tag is among the tags of its repository.
pub(crate) fn tag_order(tag: &Tag) -> String {
    format!("{}\0{tag}", tag.as_str().to_ascii_lowercase())
}

/// The tag of the part of a key that [`tag_order`] made.
pub(crate) fn tag_of(order: &str) -> &str {
    order.split_once('\0').map_or(order, |(_, tag)| tag)
}

/// `REPOSITORY SUBJECT DIGEST`.
pub(crate) fn referrer_key(repository: &RepositoryName, subject: &ContentDigest, digest: &ContentDigest) -> String {
    format!("{repository}\0{subject}\0{digest}")
}

/// Reading, the same in a snapshot and in a change.
pub(crate) trait Rows {
    fn row<V: Serialize + DeserializeOwned>(&self, table: &Table<String, V>, key: &str) -> Result<Option<V>, DbError>;

    /// Rows whose keys begin with `prefix`, behind `prefix` and `after`, at most `limit`; their keys come without the prefix.
    fn rows_after<V: Serialize + DeserializeOwned>(
        &self,
        table: &Table<String, V>,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, V)>, DbError>;

    /// All rows whose keys begin with `prefix`.
    fn rows<V: Serialize + DeserializeOwned>(
        &self,
        table: &Table<String, V>,
        prefix: &str,
    ) -> Result<Vec<(String, V)>, DbError> {
        self.rows_after(table, prefix, "", usize::MAX)
    }
}

macro_rules! rows {
    ($($transaction:ty),+) => {$(
        impl Rows for $transaction {
            fn row<V: Serialize + DeserializeOwned>(
                &self,
                table: &Table<String, V>,
                key: &str,
            ) -> Result<Option<V>, DbError> {
                self.get(table, &key.to_owned())
            }

            fn rows_after<V: Serialize + DeserializeOwned>(
                &self,
                table: &Table<String, V>,
                prefix: &str,
                after: &str,
                limit: usize,
            ) -> Result<Vec<(String, V)>, DbError> {
                // The least key behind `prefix after`; with nothing after the prefix, the prefix itself.
                let from = if after.is_empty() { prefix.to_owned() } else { format!("{prefix}{after}\0") };
                let mut left = limit;
                let found = self.scan(table, &from, |key| {
                    let more = left > 0 && key.starts_with(prefix);
                    left = left.saturating_sub(1);
                    more
                })?;
                Ok(found.into_iter().map(|(key, value)| (key[prefix.len()..].to_owned(), value)).collect())
            }
        }
    )+};
}

rows!(ReadTx, WriteTx);

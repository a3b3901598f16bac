//! What the cache knows.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use skep_store::ChainId;
use skep_types::Digest;

use crate::worker::{Held, Layer};

/// One result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it is the result of.
    pub key: Digest,
    /// What kind of thing it is.
    pub kind: RecordKind,
    /// What people are shown: `mount / from exec /bin/sh -c make`.
    pub description: String,
    /// The result.
    pub content: Content,
    /// Bytes.
    pub size: u64,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// When it was last of use to a build.
    pub last_used: Option<DateTime<Utc>>,
    /// To how many builds it was of use.
    pub uses: u64,
    /// Keys of the records that it was made from.
    pub parents: Vec<Digest>,
}

/// A result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// A layer.
    Layer {
        /// The stack with it on top.
        stack: ChainId,
        /// What it is.
        diff_id: Digest,
    },
    /// A directory of the worker, by the name that the worker gave it.
    Directory(String),
}

/// Kinds of records, as `docker buildx du` calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RecordKind {
    /// Layers.
    #[serde(rename = "regular")]
    Regular,
    /// Directories of clients.
    #[serde(rename = "source.local")]
    Local,
    /// Repositories.
    #[serde(rename = "source.git.checkout")]
    Git,
    /// Directories of `RUN --mount=type=cache`.
    #[serde(rename = "exec.cachemount")]
    CacheMount,
    /// What the builder needs itself.
    #[serde(rename = "internal")]
    Internal,
    /// What a frontend needs.
    #[serde(rename = "frontend")]
    Frontend,
}

impl RecordKind {
    /// As it is written in filters and shown.
    pub fn name(self) -> &'static str {
        match self {
            RecordKind::Regular => "regular",
            RecordKind::Local => "source.local",
            RecordKind::Git => "source.git.checkout",
            RecordKind::CacheMount => "exec.cachemount",
            RecordKind::Internal => "internal",
            RecordKind::Frontend => "frontend",
        }
    }
}

impl Record {
    /// A record of a layer just made.
    pub(crate) fn of_layer(key: Digest, description: String, layer: &Layer, parents: Vec<Digest>) -> Self {
        let content = Content::Layer { stack: layer.stack, diff_id: layer.diff_id };
        Self::new(key, RecordKind::Regular, description, content, layer.size, parents)
    }

    /// A record made and used now.
    pub fn new(
        key: Digest,
        kind: RecordKind,
        description: String,
        content: Content,
        size: u64,
        parents: Vec<Digest>,
    ) -> Self {
        let now = Utc::now();
        Record { key, kind, description, content, size, created: now, last_used: Some(now), uses: 1, parents }
    }

    /// The layer, if it is one.
    pub fn layer(&self) -> Option<Layer> {
        match &self.content {
            Content::Layer { stack, diff_id } => {
                Some(Layer { stack: *stack, diff_id: *diff_id, size: self.size, held: Held::default() })
            }
            Content::Directory(_) => None,
        }
    }

    /// What people are shown as its name: 25 letters and digits, as BuildKit's ids.
    pub fn id(&self) -> String {
        record_id(&self.key)
    }

    /// Names of the records that it was made from.
    pub fn parent_ids(&self) -> Vec<String> {
        self.parents.iter().map(record_id).collect()
    }
}

/// What people are shown for a key: 25 digits of base 36, which hold its first 128 bits.
pub fn record_id(key: &Digest) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut first = [0u8; 16];
    first.copy_from_slice(&key.as_bytes()[..16]);
    let mut rest = u128::from_be_bytes(first);
    let mut digits = [b'0'; 25];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[usize::try_from(rest % 36).unwrap_or_default()];
        rest /= 36;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

//! Where content lives: a driver keeps immutable bytes under their digest, and knows nothing else.
//!
//! ```text
//! staged file ──adopt──▶ readable ──remove──▶ gone
//! ```
//! Content is written to a local file first (hashed on the way) and then handed to the driver, so that a driver never sees
//! bytes whose digest is not known. Who may see content, and when it is removed, is decided above ([`crate::content`]); there a
//! lock per digest keeps `adopt` and `remove` of the same content apart.
//!
//! Every driver passes [`suite::run`].

mod directory;
mod location;
mod objects;
pub mod suite;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;

pub use directory::Directory;
pub use location::Location;
pub use objects::Objects;

use crate::digest::ContentDigest;

/// A call's answer to come.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// Content, piece by piece.
pub type ContentStream = Pin<Box<dyn Stream<Item = Result<Bytes, StorageError>> + Send>>;

/// Why a driver could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A file failed.
    #[error("can't {what} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// An object store failed.
    #[error("can't {what} an object: {source}")]
    Objects {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: Box<object_store::Error>,
    },
    /// No place for content is called that.
    #[error("{0:?} is not of the form s3://BUCKET/PREFIX")]
    Location(String),
    /// The root's content is elsewhere.
    #[error("the content of this root is in {known}, not in {wanted}")]
    Moved {
        /// Where it is.
        known: String,
        /// Where it was said to be.
        wanted: String,
    },
    /// There is no such content.
    #[error("{0} is not stored")]
    Missing(ContentDigest),
    /// There is less content than there was, or a place holds something else.
    #[error("{0} is damaged")]
    Damaged(ContentDigest),
    /// Work on a blocking thread did not come to its end.
    #[error("the work broke off: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// Content that a driver has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub digest: ContentDigest,
    /// How many bytes.
    pub size: u64,
    /// When it came, in milliseconds since 1970.
    pub since: i64,
}

/// A driver. All calls may run at the same time, but for `adopt` and `remove` of the same digest.
pub trait Storage: Send + Sync + 'static {
    /// Takes the file `staged`, whose bytes have this digest, and which is on the disk already (`fsync`). When this returns,
    /// the content is durable and whole; before, none of it can be read. The file may be gone afterwards or not. Content that
    /// is there already is left or replaced, either of which is the same.
    fn adopt<'a>(&'a self, digest: &'a ContentDigest, staged: &'a Path) -> Pending<'a, ()>;

    /// How large the content is; `None` if it is not there.
    fn size<'a>(&'a self, digest: &'a ContentDigest) -> Pending<'a, Option<u64>>;

    /// Reads a part of the content. `range` lies within it. A reader that has begun gets all of its bytes even if the
    /// content is removed meanwhile, or an error, but never other bytes.
    fn read<'a>(&'a self, digest: &'a ContentDigest, range: Range<u64>) -> Pending<'a, ContentStream>;

    /// Removes the content; it is no error if it is not there.
    fn remove<'a>(&'a self, digest: &'a ContentDigest) -> Pending<'a, ()>;

    /// Everything that is there, in no order. Content that comes or goes meanwhile may be in it or not.
    fn list(&self) -> Pending<'_, Vec<Stored>>;
}

/// All bytes of some content, which is known to be small.
pub async fn read_all(storage: &dyn Storage, digest: &ContentDigest, size: u64) -> Result<Bytes, StorageError> {
    use futures_util::StreamExt;
    let mut content = storage.read(digest, 0..size).await?;
    let mut bytes = bytes::BytesMut::new();
    while let Some(piece) = content.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes.freeze())
}

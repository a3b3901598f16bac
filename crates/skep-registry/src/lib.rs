//! A client of container registries (distribution API v2).
//!
//! [`Repository::connect`] finds out how a registry wants to be spoken to (TLS or, where that is allowed, plain HTTP) and
//! authenticates; [`Repository::manifest`] fetches a manifest or an index, [`Repository::blob`] streams a blob. What is handed out has the
//! digest that was asked for, or the call fails: nothing behind this crate has to trust a registry. Error texts are Docker's.
//!
//! A registry may have mirrors ([`RegistryConfig::mirrors`], containerd's `hosts.toml`): each request goes to the first host that is
//! fit for it, and to the next when that fails, a blob also in the middle. Mirrors get no credentials.
//!
//! Not here: which platform of an index is wanted, what becomes of the bytes, and anything on disk.
#![warn(missing_docs)]

mod auth;
mod blob;
mod challenge;
mod client;
mod config;
mod endpoint;
mod error;
mod fetch;
#[doc(hidden)]
pub mod fuzzing;
mod hosts;
mod login;
mod manifest;
mod push;
mod referrers;
mod repository;
mod search;
mod shared;
mod signatures;
mod sources;
mod tags;
mod transport;

pub use blob::{Blob, BlobPart, digest_of};
pub use config::{Credentials, Keyring, Proxies, RegistryConfig};
pub use error::{ApiError, Phase, RegistryError};
pub use fetch::{Answer, Download, Seen, download, download_unless};
pub use login::{login, registry_of};
pub use manifest::{
    ArtifactManifest, Descriptor, ImageManifest, Index, MAX_MANIFEST_SIZE, Manifest, ManifestError, media_type,
};
pub use push::{BlobSource, BlobStream, Mount, UploadEvent, UploadSession, Uploaded};
pub use referrers::Referrer;
pub use repository::{Access, FetchedManifest, Repository};
pub use search::{Found, search};
pub use shared::Shared;
pub use signatures::AttachedSignature;

/// What the client's calls return.
pub type Result<T, E = RegistryError> = std::result::Result<T, E>;

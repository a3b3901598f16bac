//! A registry: the server side of the OCI distribution specification 1.1.
//!
//! ```text
//!  HTTP ──▶ http (decode, answer) ──▶ routes (one file per resource) ──▶ content (repositories) ──▶ storage (bytes)
//!                                                                          └▶ registry.redb (metadata)
//! ROOT/registry.redb   who has what: repositories, tags, manifests, links, referrers; locked by the one process that has it
//! ROOT/content/        bytes by digest, unless another storage keeps them
//! ROOT/uploads/        what is not finished
//! ```
//! **Why a database and not files for the metadata.** With link files, as older registries have them, a manifest, its tag and its
//! entry among the referrers become visible one after the other, and a garbage collector sees a state that never was; it needs a
//! registry that takes no pushes. Here each change is one transaction: the collector marks from a snapshot that is consistent by
//! itself, and sweeps in transactions that look at the links again. The price is that a directory belongs to one process.
//!
//! **What survives what.** Content becomes visible by a rename after its bytes are on the disk, and is spoken of in the database
//! only after that. `kill -9` at any moment leaves at most content that nobody speaks of, or an unfinished upload; the first goes
//! with the next garbage collection, the second can be gone on with.
//!
//! Names from outside are types ([`name`], [`digest`]); no path is made of unchecked text.
#![warn(missing_docs)]

pub mod auth;
mod cache;
mod collect;
mod content;
pub mod control;
pub mod digest;
mod error;
mod http;
mod maintenance;
pub mod manifest;
mod metrics;
pub mod name;
mod reload;
mod routes;
mod server;
pub mod storage;
mod tls;

pub use cache::{CacheConfig, CacheError, Upstream};
pub use collect::{Collection, Mode, Report, Retention, RetentionError, Untagged};
pub use content::{Clients, Content, Mount, Parts, StoredManifest};
pub use error::{Code, Error, Refusal, Result};
pub use http::server::Access;
pub use maintenance::Maintenance;
pub use reload::{ReloadError, Reloader};
pub use server::{Registry, Settings, StartError, open};
pub use tls::{TlsError, TlsFiles};

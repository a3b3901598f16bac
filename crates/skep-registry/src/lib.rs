//! A client of container registries (distribution API v2): resolve a reference, fetch manifests, stream blobs.
#![warn(missing_docs)]

mod config;

pub use config::{Credentials, RegistryConfig};

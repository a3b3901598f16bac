//! Reading a running registry's files again: all that are good, or none of them. Nobody who is connected notices.

use std::sync::Weak;

use crate::auth::FileError;
use crate::cache::CacheError;
use crate::collect::RetentionError;
use crate::http::server::Shared;
use crate::tls::TlsError;

/// Why files are not used, and what was in them before still counts.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The registry's identity.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// Which tags stay.
    #[error("{0}")]
    Retention(#[from] RetentionError),
    /// What is copied from where.
    #[error("{0}")]
    Upstreams(#[from] CacheError),
    /// Users, their rights, keys.
    #[error("{0}")]
    Authority(#[from] FileError),
}

/// A running registry's files. It keeps neither the registry nor its root.
#[derive(Clone)]
pub struct Reloader(pub(crate) Weak<Shared>);

impl Reloader {
    /// Reads again the certificate and its key, retention rules, upstreams, users, access rules and keys for tokens. Nothing is left to
    /// do once the registry has ended.
    pub fn reload(&self) -> Result<(), ReloadError> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let identity = shared.identity.as_ref().map(|identity| identity.read_again()).transpose()?;
        let retention = shared.retention.read().read_again()?;
        let upstreams = shared.cache.as_ref().map(|cache| cache.config().read_again()).transpose()?;
        // These look after themselves and count from here on, one by one; so they come last.
        shared.authority.read_again()?;
        if let (Some(known), Some(new)) = (&shared.identity, identity) {
            known.replace(new);
        }
        if let (Some(cache), Some(new)) = (&shared.cache, upstreams) {
            cache.replace(new);
        }
        *shared.retention.write() = retention;
        Ok(())
    }
}

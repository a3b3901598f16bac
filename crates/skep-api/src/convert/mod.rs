//! Wire types to the engine's types and back. What Docker's texts and JSON forms have to do with lives here, not in the
//! engine.

pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod create_host;
pub(crate) mod endpoint;
pub(crate) mod explain;
pub(crate) mod host;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod network;
pub(crate) mod progress;
pub(crate) mod stats;
pub(crate) mod summary;
pub(crate) mod unsupported;

#[cfg(test)]
mod tests;

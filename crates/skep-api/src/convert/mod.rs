//! Wire types to the engine's types and back. What Docker's texts and JSON forms have to do with lives here, not in the
//! engine.

pub(crate) mod info;

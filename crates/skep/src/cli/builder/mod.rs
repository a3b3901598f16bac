//! `builder` and `buildx`: what builds keep.

pub(crate) mod du;
pub(crate) mod prune;

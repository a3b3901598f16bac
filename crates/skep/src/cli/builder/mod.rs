//! `builder` and `buildx`: what builds keep, and what builds.

pub(crate) mod cache;
pub(crate) mod du;
pub(crate) mod history;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod prune;
mod record;
mod worker;

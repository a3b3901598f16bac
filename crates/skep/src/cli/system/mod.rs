//! Commands about the engine as a whole.

pub(crate) mod check;
pub(crate) mod df;
pub(crate) mod dial_stdio;
pub(crate) mod events;
pub(crate) mod gc;
pub(crate) mod info;
pub(crate) mod preview;
pub(crate) mod prune;
pub(crate) mod version;

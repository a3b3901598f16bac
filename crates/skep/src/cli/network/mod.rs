//! Commands about networks.

pub(crate) mod ls;

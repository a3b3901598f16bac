//! Commands about networks.

pub(crate) mod connect;
pub(crate) mod create;
pub(crate) mod disconnect;
mod ipam;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;

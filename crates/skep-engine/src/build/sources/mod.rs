//! Where files come from that no step has made: directories of the client, web servers, git repositories, images.

pub(super) mod caches;
pub(super) mod git;
pub(super) mod http;
pub(super) mod image;
pub(super) mod layout;
pub(super) mod local;
mod slots;

pub(super) use slots::{Slots, remove_if_empty};

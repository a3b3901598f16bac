//! Commands about images.

pub(crate) mod copy;
pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod load;
pub(crate) mod ls;
pub(crate) mod output_file;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rmi;
pub(crate) mod save;
pub(crate) mod tag;
pub(crate) mod tree;

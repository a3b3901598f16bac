//! Commands about registries: credentials for them, and running one.

mod authority;
pub(crate) mod gc;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod search;
pub(crate) mod serve;

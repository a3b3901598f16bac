//! The endpoints, one file per group.

mod system;
mod unsupported;

use crate::http::router::Route;

/// All endpoints. The ones that skep does not offer come last, so that what is offered wins.
pub(crate) fn all() -> Vec<Route> {
    [system::routes(), unsupported::routes()].into_iter().flatten().collect()
}

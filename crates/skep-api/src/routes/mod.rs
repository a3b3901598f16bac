//! The endpoints, one file per group.

mod attach;
mod builds;
mod caches;
mod commit;
mod containers;
mod copy;
mod events;
mod exec;
mod explain;
mod files;
mod images;
mod lifecycle;
mod logs;
mod networks;
mod push;
mod registry;
mod stats;
mod system;
mod transfer;
mod unsupported;
mod upkeep;
mod usage;
mod volumes;

pub(crate) use images::platform;

use crate::http::router::Route;

/// All endpoints. The ones that skep does not offer come last, so that what is offered wins.
pub(crate) fn all() -> Vec<Route> {
    [
        system::routes(),
        events::routes(),
        commit::routes(),
        containers::routes(),
        lifecycle::routes(),
        attach::routes(),
        logs::routes(),
        stats::routes(),
        files::routes(),
        exec::routes(),
        images::routes(),
        transfer::routes(),
        push::routes(),
        copy::routes(),
        registry::routes(),
        volumes::routes(),
        networks::routes(),
        explain::routes(),
        builds::routes(),
        caches::routes(),
        usage::routes(),
        upkeep::routes(),
        unsupported::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

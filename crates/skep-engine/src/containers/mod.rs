//! Containers. One owner task per container ([`task`]) holds the record and is the only one to change it; everybody else
//! reads what it published ([`index`]) or sends it a command.
//!
//! ```text
//!            create                start                 exit, no restart
//!   (none) ─────────▶ Created ─────────────▶ Running ─────────────────────▶ Exited ──▶ (removed)
//!                        ▲  start failed │    │   ▲ unpause                   │ start
//!                        └───────────────┘    ▼   │                           └────────▶ Running
//!                                           Paused
//!   Running ── exit, policy says so ──▶ Restarting ── back-off is over ──▶ Running
//! ```

pub(crate) mod attach;
pub(crate) mod bundle;
mod connect;
pub(crate) mod copy_up;
pub(crate) mod create;
mod devices;
mod ending;
pub(crate) mod exec;
pub(crate) mod filter;
pub(crate) mod hosts;
pub(crate) mod index;
mod limits;
mod links;
mod mounted;
pub(crate) mod mounts;
mod names;
pub(crate) mod oci;
mod ports;
pub(crate) mod processes;
pub(crate) mod record;
mod restart;
pub(crate) mod restore;
pub(crate) mod rootfs;
pub(crate) mod sample;
mod seccomp_profile;
mod security;
mod start;
pub(crate) mod task;
pub(crate) mod users;
mod validate;

use skep_runtime::cgroup::Cgroup;

use crate::engine::Inner;
use crate::model::view::ContainerView;

/// The control group of a container that runs.
pub(crate) fn bundle_cgroup(engine: &Inner, view: &ContainerView) -> crate::Result<Cgroup> {
    bundle::open_cgroup(&bundle::cgroup_path(engine, &view.host, view.id))
}

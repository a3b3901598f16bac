//! The Docker Engine API over HTTP: decode, call the engine, encode. Statuses and JSON end here; the engine knows of neither.
//!
//! ```text
//! listen ─→ http::connection ─→ http::router ─→ routes::* ─→ Engine
//!           (one task each)     version, path    query and body → domain types (convert::*) → call → JSON
//! ```
//!
//! - [`Listener`]: unix and tcp sockets, made here or passed in by systemd; TLS with client certificates.
//! - `http`: everything below the meaning of a request: connections, hijacking, versions, errors, queries, framing.
//! - `routes`: one file per group of endpoints. `convert`: wire types to domain types and back.
//!
//! Invariants: a request that only reads ends when its client hangs up, one that changes something goes on; every
//! endpoint of the Engine API that skep does not offer answers 501 and names itself; no field of a create request is
//! silently ignored.
#![warn(missing_docs)]

mod buildkit;
mod classic;
mod convert;
mod http;
mod listen;
mod routes;
mod tls;

pub use listen::{ListenError, Listener, inherited_count};
pub use tls::{TlsError, TlsFiles, tls_config};

use std::time::Duration;

use skep_engine::Engine;

/// The version of the Engine API that is spoken with clients that name none.
pub const API_VERSION: &str = "1.51";
/// The oldest version that a client may ask for.
pub const MIN_API_VERSION: &str = "1.24";

/// Serves `engine` on all `listeners` until `shutdown` is ready, or nobody was connected and no container ran for `idle`; then
/// lets running requests finish for a moment.
///
/// Socket files that this process made are removed at the end.
pub async fn serve(
    engine: Engine,
    listeners: Vec<Listener>,
    idle: Option<Duration>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let router = http::router::Router::new(routes::all());
    let builds = buildkit::BuildKit::new(std::sync::Arc::new(engine.clone()));
    http::server::serve(engine, builds, router, listeners, idle, shutdown).await;
}

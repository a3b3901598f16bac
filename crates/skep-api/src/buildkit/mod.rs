//! Builds over BuildKit's protocol: what `docker buildx`, and `docker build` through it, speak with the engine.
//!
//! ```text
//!   POST /session ─▶ Sessions ◀──────────────── services: the Services of a build are calls to its client's session
//!   POST /grpc ────▶ control::Solve ─ register ─▶ Builds[ref] ◀─ bridge::Solve (the client's gateway, by build id)
//!                    waits for bridge::Return                     request: attributes ─▶ BuildRequest ─▶ Builder::build
//!                    Builder::export ◀──────── results by ref ◀───────────────────────────── Built
//!                    control::Status ◀── progress ◀── BuildEvent
//! ```
//!
//! The frontend is the engine's own: `dockerfile.v0` is the only one there is. Definitions of steps (`llb`) are made as a Dockerfile's
//! steps are; one that stands for a result that was handed out before is how `bake` links targets.
//!
//! A step that failed stays to be looked into until the build ends: `failed` tells the client of it, `containers` and `processes` let
//! programs run where it failed.
//!
//! A build ends with its call of `Solve`: a client that goes away cancels it.

mod bridge;
mod builder;
mod builds;
mod caps;
mod containers;
mod content;
mod control;
mod definition;
mod disk;
mod entitlements;
mod error;
mod facts;
mod failed;
mod filter;
mod history;
mod llb;
mod look;
mod mounts;
mod options;
mod processes;
mod progress;
mod request;
mod result;
mod services;
mod stored;
mod subrequest;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use skep_buildkit::MESSAGE_LIMIT;
use skep_buildkit::grpc::Routes;
use skep_buildkit::proto::moby::buildkit::v1::control_server::ControlServer;
use skep_buildkit::proto::moby::buildkit::v1::frontend::llb_bridge_server::LlbBridgeServer;
use skep_buildkit::session::Sessions;

pub(crate) use builder::Builder;
pub(crate) use builds::Builds;
pub(crate) use progress::Progress;
pub(crate) use request::is_git;
pub(crate) use services::{Client as SessionClient, failed_sync};

/// The builds of a server.
pub(crate) struct BuildKit {
    pub(crate) builder: Arc<dyn Builder>,
    pub(crate) sessions: Sessions,
    pub(crate) builds: Arc<Builds>,
}

impl BuildKit {
    pub(crate) fn new(builder: Arc<dyn Builder>) -> Arc<Self> {
        let builds = Arc::new(Builds::new(Arc::clone(&builder)));
        Arc::new(BuildKit { builder, sessions: Sessions::default(), builds })
    }

    /// What is served on `/grpc`.
    pub(crate) fn routes(self: &Arc<Self>) -> Routes {
        let control = ControlServer::new(control::Control(self.clone())).max_decoding_message_size(MESSAGE_LIMIT);
        let bridge = LlbBridgeServer::new(bridge::Bridge(self.clone())).max_decoding_message_size(MESSAGE_LIMIT);
        Routes::default().with(control, &[]).with(bridge, &[]).with(content::Content(self.clone()), &[])
    }
}

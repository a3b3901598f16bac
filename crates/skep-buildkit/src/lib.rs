//! BuildKit's protocol, both sides.
//!
//! ```text
//! client (docker buildx, skep build)                     engine
//!   POST /grpc     h2c ── gRPC calls ─────────────────▶  Control, LLBBridge (skep-api serves them)
//!   POST /session  h2c ◀──────────────── gRPC calls ──   Session: the engine asks for files, secrets, logins
//!        Provider answers them
//! ```
//!
//! | module | what it owns |
//! |---|---|
//! | [`grpc`] | gRPC over a stream that is already there, in either direction |
//! | [`session`] | the engine's end: who is connected, and calls to the services of one client |
//! | [`provider`] | the client's end: the services that answer those calls |
//! | [`filesync`] | a tree of files sent and received, as in BuildKit's fsutil |
//! | [`agent`] | an ssh agent of the client's own, over files of keys |
//! | [`answers`] | what is said of a Dockerfile without building it |
//! | [`errors`] | where in a Dockerfile a build failed, as statuses carry it |
//! | [`content`] | the few messages of containerd's content service that OCI layouts need |
//!
//! The crate knows the messages and not what they are for: no Dockerfile, no image, no HTTP routes. What a peer sends is not
//! trusted in either direction: paths are resolved below an open directory, and sizes and counts are bounded.
#![warn(missing_docs)]

pub mod agent;
pub mod answers;
pub mod content;
pub mod errors;
pub mod filesync;
pub mod grpc;
pub mod provider;
pub mod session;

pub use bollard_buildkit_proto as proto;

/// The largest message that is taken, as in BuildKit.
pub const MESSAGE_LIMIT: usize = 16 << 20;

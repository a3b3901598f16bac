//! The builder: what a Dockerfile says becomes a graph of steps, and the graph becomes an image.
//!
//! ```text
//! BuildRequest ──▶ Dockerfile, parsed ──▶ Graph (one per platform) ──▶ solver ──▶ BuiltImage: layers and configuration
//!                                                                      │
//!                              cache: key of a step ──▶ its layer      ├─▶ Worker    does what a step says, on this machine
//!                                                                      └─▶ Services  what only the client has: directories, secrets, agents
//! ```
//!
//! | module | what it owns |
//! |---|---|
//! | `attest` | provenance and lists of packages |
//! | [`builder`] | what a build is given, and what comes of it |
//! | [`request`] | what a user asks for |
//! | [`graph`] | steps and what they read |
//! | [`cache`] | what was made before, and what of it goes |
//! | [`image`] | configurations of images |
//! | `convert` | Dockerfile to graph and configuration |
//! | `frontend` | request to images: loads, plans, converts, solves, finishes |
//! | `solve` | walks the graph: keys, cache, single flight, vertices ([`Report`]) |
//! | [`worker`], [`services`] | what the solver needs of the engine and of the client |
//! | [`event`] | what is told while a build goes on |
//! | [`error`] | why a build failed, and where in the Dockerfile |
//!
//! Invariants: a step's key covers all that its result depends on and nothing else, above all no file times and no secrets; two
//! steps with the same key run once, also across builds that run at the same time; a step without a use is not run.
#![warn(missing_docs)]

mod attest;
pub mod builder;
pub mod cache;
mod convert;
pub mod error;
pub mod event;
mod frontend;
pub mod graph;
pub mod image;
pub mod request;
pub mod services;
mod solve;
pub mod worker;

pub use attest::without_password;
pub use builder::{Builder, Built, BuiltImage, Definition, Job, Solved};
pub use cache::Cache;
pub use error::{BuildError, FailedStep, Location};
pub use event::{BuildEvent, VertexId};
pub use graph::{Graph, Op, Step, StepId};
pub use request::BuildRequest;
pub use services::Services;
pub use solve::{Parts, Report};
pub use worker::Worker;

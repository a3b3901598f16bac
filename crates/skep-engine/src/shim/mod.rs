//! The engine's side of the shim: spawn it, find it again after a restart of the daemon, ask it for things, hear what happens.
//!
//! [`skep_runtime::protocol`] defines what is said; this module only carries it over tokio. Every request has a connection of
//! its own (connecting to a local socket costs some 20 µs), so nothing is shared between callers and a caller that goes away
//! disturbs nobody: the shim finishes what it was asked. Events come on one long-lived connection, [`ShimEvents`], that belongs
//! to the container's owner task.
//!
//! ```text
//!   let Spawned { shim, mut events, created } = ShimHandle::spawn(runtime, bundle, config, netns).await?;
//!   let stream = shim.attach(Attach { .. }).await?;      // before start: misses nothing
//!   shim.start().await?;
//!   while let Some(event) = events.next().await? { .. }  // Exited{..} of the container is the last that matters
//! ```
//!
//! `config.json` is the caller's to write, before `spawn`. The caller recognises detach keys; detaching is dropping the
//! [`AttachStream`], shutting its writing side down is end of file on stdin.

mod attach;
mod connection;
mod error;
mod events;
mod handle;
mod spawn;

pub use attach::AttachStream;
pub use error::ShimError;
pub use events::{ShimEvent, ShimEvents};
pub use handle::{ExecExit, RunningExec, ShimHandle};
pub use spawn::{Created, Reconnected, Spawned};

//! Names of containers: what is said on the wire (RFC 1035), the files in which the engine says who has which name, and how the two
//! meet.
//!
//! The engine writes, the shim of each container reads:
//!
//! ```text
//!  engine ──▶ one file of names per network ([`names`]) ─┐
//!         ──▶ one file per container ([`Client`]) ───────┤
//!                                                        ▼
//!  container ── question ([`Query`]) ──▶ shim: look it up ([`lookup`]) ── answer ([`Answer`]) ──▶ container
//!                                          └── not ours: the same bytes to a server ([`resolv`], [`is_reply_to`])
//! ```
//!
//! Nothing in here opens a socket. Everything that comes from a container or a server is untrusted: a parser takes a slice and gives
//! a value or a refusal, reads only forward, and follows no compression pointer.
#![warn(missing_docs)]

mod answer;
mod client;
pub mod hosts;
pub mod lookup;
mod name;
pub mod names;
mod query;
mod reply;
pub mod resolv;
mod services;

pub use answer::{Answer, LARGEST_DATAGRAM, Rcode};
pub use client::{Client, Forward, Membership};
pub use name::Name;
pub use query::{Kind, Query, Refusal};
pub use reply::{is_reply_to, is_truncated, rcode_of};

/// The address at which containers reach their name server.
pub const ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 11);
/// The port at which they do.
pub const PORT: u16 = 53;
/// The name under which every container finds the host.
pub const HOST_NAME: &str = "host.docker.internal";

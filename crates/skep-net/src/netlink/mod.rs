//! Netlink without helpers: a writer and reader of messages, a synchronous socket, and the few rtnetlink requests that
//! container networks need.
//!
//! Several requests travel in one `sendmsg`. The kernel works a batch off before that call returns, so every answer is
//! already queued by then and reading never blocks.

pub(crate) mod route;
mod socket;
pub(crate) mod traffic;
mod wire;

pub(crate) use socket::{Events, Refused, Socket};
pub(crate) use wire::{Batch, Message, Received, attributes, find};

//! Garbage collection by free space: when the file system of the data root runs full, what nothing needs goes, least recently used
//! first, until enough is free again.
//!
//! ```text
//! every interval, and whenever images come or go:
//!   statvfs ─ free >= low ──────────────────────────────────► nothing
//!                └─ less ─► plan ─► one step after the other, until free >= high
//!
//! order: trash ─► partial downloads ─► cache of builds ─► images without a tag ─► tagged ones, only if the settings say so
//! ```
//! The cache of builds is also held below its own limits, after builds ([`builds`]).
//!
//! Never: what a running build uses, what a container has (a stopped one too), what one is being made from, what a rule keeps, what was used less than the least
//! age ago. [`plan`] decides and does nothing; [`run`] does and decides nothing, but looks again before each step.

pub(crate) mod builds;
pub(crate) mod plan;
mod run;

pub(crate) use run::watch;

//! The OCI runtime: from a bundle to a process, the per-container shim, and the init used for `--init`. Synchronous, without
//! threads. Called by the engine (through the shim), and by other engines through runc's command line.
#![warn(missing_docs)]

pub mod capability;
pub mod cgroup;
pub mod container;
pub mod init;
pub mod protocol;
pub mod seccomp;
pub mod shim;
pub mod spec;

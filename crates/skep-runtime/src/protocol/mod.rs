//! What the engine and the shim say to each other. This is the only definition; both sides use it.
//!
//! The engine writes `config.json` and [`SHIM_CONFIG`] into the container's bundle directory and spawns
//! `skep-runtime shim --bundle DIR` with a connected `SOCK_STREAM` socket as its standard input, the *control connection*.
//! Everything after that travels as frames (see [`frame`]) of JSON on that connection or on further connections to
//! [`SHIM_SOCKET`] in the bundle; all connections speak the same language.
//!
//! ```text
//!  engine                                      shim
//!    │ spawn ───────────────────────────────────▶ │ reads shim.json, listens on shim.sock,
//!    │                                            │ clones the container's init up to the gate
//!    │ ◀─────────── Created{pid, start_time, ...} │ (or Failed, and the shim is gone)
//!    │                                            │
//!    │ Attach{..} + data socket ────────────────▶ │ before Start: sees every byte of output
//!    │ ◀──────────────────────────────── Attached │
//!    │ Start ───────────────────────────────────▶ │ opens the gate, waits for execve
//!    │ ◀───────────────────────── Started, Failed │
//!    │                                            │
//!    │ Exec{..} (+ data socket) ────────────────▶ │ on a connection of its own
//!    │ ◀───────────── ExecStarted{pid, ..}, Failed│
//!    │ ◀───── Exited{Exec(id)} (also to every     │
//!    │                     subscribed connection) │
//!    │                                            │ init ends: output drained into the log, cgroup removed,
//!    │                                            │ exit.json renamed into place, and only then
//!    │ ◀──────────────────────── Exited{Container}│
//!    │                                            │ attached clients drained, shim.sock removed, exit
//! ```
//!
//! Rules:
//! - Every [`Request`] gets exactly one answer on its own connection, in order. The control connection and any connection that
//!   sent [`Request::Subscribe`] also gets [`Reply::Exited`] and [`Reply::Trouble`] in between; clients must expect these.
//! - A *data socket* is one end of a `SOCK_STREAM` pair, passed with `SCM_RIGHTS` together with the first byte of its request's
//!   frame. The shim writes output into it: as frames of Docker's stream format (one byte 1 or 2 for stdout or stderr, three
//!   zero bytes, payload length as u32 big-endian, payload) or, if the process has a terminal, as raw bytes. What it reads
//!   from it goes to the process's stdin. It closes it when the output is complete and, for an exec, after `Exited`.
//! - The end of a client's stdin (half-closed, or the client gone) closes the process's stdin if that is
//!   [`StdinMode::Once`] and there is no terminal, or for an exec without a terminal. Otherwise it ends only this attachment.
//!   So half-closing means to send end of file, and detaching (Ctrl-P Ctrl-Q, which the engine recognises; the shim passes
//!   all bytes through) means to drop the data socket.
//! - Output goes to the log first. A client that does not keep up makes the shim stop reading from the process (as a pipe would)
//!   until it has taken something; one that has taken nothing for [`Grace::slow_client_ms`] is dropped. The output of an exec
//!   has no other reader, so its client is never dropped.
//! - If the control connection closes before `Start`, nobody can know of the container: the shim undoes everything and ends.
//!   After `Start` the shim does not care who is connected.
//! - Only root and the user that the shim runs as may connect (`SO_PEERCRED`).

mod config;
pub mod frame;
mod message;

pub use config::{FirstProcess, Grace, Lifetime, LogConfig, OverlayOwners, OverlaySync, Rootfs, ShimConfig, StdinMode};
pub use message::{
    Attach, Exec, ExecState, Exit, ExitRecord, Failure, FailureKind, Phase, Reply, Request, Scope, State, Target,
};

/// The version of this protocol. A shim refuses a configuration of another version; an engine that finds an older shim at
/// work after an upgrade talks to it as long as the number is the same.
pub const VERSION: u32 = 1;

/// The specification of the container, in the bundle.
pub const SPEC: &str = "config.json";
/// The [`ShimConfig`], in the bundle.
pub const SHIM_CONFIG: &str = "shim.json";
/// The socket the shim listens on, in the bundle; mode 0600.
pub const SHIM_SOCKET: &str = "shim.sock";
/// The [`ExitRecord`], in the bundle; there once the container has ended.
pub const EXIT_RECORD: &str = "exit.json";
/// The process id of the container's init as decimal digits, in the bundle; for people and scripts.
pub const PID_FILE: &str = "pid";

//! What end-to-end tests are made of: an engine of their own, clients to command it with, images to run, a registry to pull
//! from, and the proof that nothing is left of it all.
//!
//! ```no_run
//! let engine = skep_testkit::Engine::start();
//! engine.load(skep_testkit::Image::busybox());
//! engine.run(["run", "--rm", "busybox", "echo", "hello"]).success().stdout_is("hello\n");
//! // When `engine` goes: all containers, networks, volumes and images are removed, then processes, mounts, cgroups, links,
//! // firewall rules and files are compared with what they were before the test, and the engine is stopped.
//! ```
//!
//! Everything here panics when it fails, as it is the test that fails then; a failing test prints the engine's log. Tests can run
//! side by side, also those of several processes: what is shared by name is numbered by [`Slot`]. Needs root.
//!
//! | variable | effect |
//! |---|---|
//! | `SKEP_TEST_ENGINE=docker` | tests run against the dockerd of this machine, to prove the tests |
//! | `SKEP_TEST_CLIENT=docker` | commands go through the real `docker` client |
//! | `SKEP_TEST_PLUGINS` | a folder with that client's plugins: it builds with `docker-buildx` |
//! | `SKEP_TEST_KEEP=1` | a failing test leaves its directory, and says where |
//! | `SKEP_TEST_REGISTRY=docker-registry` | images come from Debian's registry instead of `skep registry serve` |
//! | `SKEP_BIN_DIR` | where `skep` and `skep-runtime` are; otherwise they are built |
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "fails by panicking and explains itself on stderr"
)]

mod api;
mod binaries;
mod command;
mod engine;
mod image;
mod leaks;
mod registry;
mod relay;
mod signature;
mod slot;
mod sshd;
mod subordinate;
mod terminal;
mod wait;

pub use api::{Api, Reply};
pub use binaries::program;
pub use command::{Command, Outcome};
pub use engine::{Engine, EngineBuilder, EngineKind};
pub use image::{Image, ImageBuilder, sha256};
pub use registry::Registry;
pub use relay::{BlobRequest, Flow, Relay};
pub use signature::Signer;
pub use slot::Slot;
pub use sshd::Sshd;
pub use subordinate::subordinate_ids;
pub use terminal::Terminal;
pub use wait::{DEADLINE, until, until_some};
